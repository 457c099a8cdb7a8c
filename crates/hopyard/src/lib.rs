//! Networks of Linux network namespaces, from Rust and its tests.
//!
//! Declare a network, start it in milliseconds, without root, and question it with ordinary
//! blocking sockets; when the value is dropped, or the process dies, nothing of it is left.
//!
//! ```
//! use std::io::{Read, Write};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // home ----- near ----- far          addresses, routes and forwarding are chosen
//! let net = hopyard::Network::start("home -- near -- far")?;
//! assert!(net.ping("home", "far")?.is_reply());
//!
//! let listener = net.node("far")?.run(|| std::net::TcpListener::bind("0.0.0.0:80"))??;
//! let far = net.node("far")?.ipv4().ok_or("far has no IPv4 address")?;
//! let mut client = net.node("home")?.run(|| std::net::TcpStream::connect((far, 80)))??;
//! let (mut server, _) = listener.accept()?;
//! server.write_all(b"hello")?;
//! drop(server);
//! let mut text = String::new();
//! client.read_to_string(&mut text)?;
//! assert_eq!(text, "hello");
//!
//! let routes = net.node("near")?.command("ip").arg("route").output()?;
//! assert!(routes.status.success());
//! # Ok(())
//! # }
//! ```
//!
//! To cut a node off, and to let it back, do in it what you would do on a machine; nothing outside of the network
//! notices. The same test in a shell is `hop run FILE -- CMD`, with `hop exec` in place of `command`.
//!
//! ```
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let net = hopyard::Network::start("switches: { lan: [n1, n2, n3] }")?;
//! let short = Duration::from_millis(300);
//!
//! // By its cable: neither way, and n3 knows.
//! let mut cable = net.node("n3")?.command("ip");
//! assert!(cable.args(["link", "set", "eth0", "down"]).status()?.success());
//! assert!(!net.ping_within("n1", "n3", short)?.is_reply());
//! let mut cable = net.node("n3")?.command("ip");
//! assert!(cable.args(["link", "set", "eth0", "up"]).status()?.success());
//!
//! // By a firewall: n2 alone does not hear n1, and both believe that all is well.
//! let n1 = net.node("n1")?.ipv4().ok_or("n1 has no IPv4 address")?;
//! let wall = format!("table ip cut {{ chain in {{ type filter hook input priority 0; ip saddr {n1} drop; }}; }}");
//! assert!(net.node("n2")?.command("nft").arg(wall).status()?.success());
//! assert!(!net.ping_within("n1", "n2", short)?.is_reply());
//! assert!(net.ping("n3", "n2")?.is_reply());
//! assert!(net.node("n2")?.command("nft").args(["delete", "table", "ip", "cut"]).status()?.success());
//! assert!(net.ping("n1", "n2")?.is_reply());
//! # Ok(())
//! # }
//! ```
//!
//! Where the system forbids an ordinary user's namespaces, as Ubuntu does by AppArmor,
//! [`Network::start`] fails; `docs/without-root.md` says how a test program is let through.
//!
//! The modules below are the layers that the program `hop` is built from as well.
#![forbid(unsafe_code)]

mod network;

pub use hopyard_explain as explain;
pub use hopyard_formats as formats;
pub use hopyard_kernel as kernel;
pub use hopyard_model as model;
pub use hopyard_net as net;
pub use hopyard_plan as plan;
pub use hopyard_runtime as runtime;

pub use network::{Error, Network, Node};
