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
