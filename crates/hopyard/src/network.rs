//! A running network that ends with its value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use hopyard_formats::SourceFile;
use hopyard_kernel::enter_network;
use hopyard_model::{Lab, LabName};
use hopyard_net::NsName;
use hopyard_runtime::ping::{self, Outcome, Probe};
use hopyard_runtime::{Home, Lifetime, Running, Tied};

/// Why a network could not be started or questioned.
///
/// As `Debug` it reads as `Display` does: a test that returns it, or unwraps it, shows it so.
#[derive(thiserror::Error)]
pub enum Error {
    /// The topology is wrong; the text says all that is, each with its place.
    #[error("{0}")]
    Topology(String),
    /// It could not be brought up, or asked.
    #[error(transparent)]
    Runtime(#[from] hopyard_runtime::Error),
    /// A node has no address in the family that was asked for.
    #[error("node `{0}` has no address")]
    NoAddress(String),
    /// A file could not be read.
    #[error("cannot read {}: {source}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A running network. It ends when this is dropped, also by a panic, or when the process dies.
pub struct Network {
    // Before the namespaces: it ends the lab.
    tied: Option<Tied>,
    running: Running,
    namespaces: BTreeMap<NsName, OwnedFd>,
    addresses: BTreeMap<NsName, Vec<IpAddr>>,
}

/// A node of a running network.
#[derive(Clone, Copy)]
pub struct Node<'a> {
    network: &'a Network,
    name: &'a NsName,
    namespace: &'a OwnedFd,
}

/// How long [`Network::ping`] waits for an answer.
const PING_TIMEOUT: Duration = Duration::from_secs(2);

impl Network {
    /// Starts a network from an inline topology (`"a -- b -- c"`, `"chain:5"`, `"fat-tree:4"`) or
    /// the text of a topology file. Networks of parallel tests do not meet, whatever their names.
    ///
    /// # Errors
    /// The topology is wrong, or the machine does not let it be built; `hop doctor` says why.
    pub fn start(topology: &str) -> Result<Self, Error> {
        // Inline, a colon stands between a node and its interface, or before a number. In JSON no space need follow it.
        let has_keys = topology.split_whitespace().any(|word| word.ends_with(':'));
        let read = if has_keys || topology.trim_start().starts_with('{') {
            let source = SourceFile::new("topology.hop.yaml", topology);
            hopyard_formats::read(&source).map_err(|problems| (problems, source))
        } else {
            let source = SourceFile::inline(topology);
            hopyard_formats::inline(topology).map_err(|problems| (problems, source))
        };
        let (lab, _warnings) = read.map_err(|(problems, source)| Error::Topology(render(&problems, &source)))?;
        Self::start_lab(&lab)
    }

    /// Starts a network from a topology file.
    ///
    /// # Errors
    /// The file cannot be read, or as for [`start`](Self::start).
    pub fn start_file(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let text = std::fs::read_to_string(&path).map_err(|source| Error::File { path: path.clone(), source })?;
        let source = SourceFile::new(path.display().to_string(), text);
        let (lab, _warnings) =
            hopyard_formats::read(&source).map_err(|problems| Error::Topology(render(&problems, &source)))?;
        Self::start_lab(&lab)
    }

    /// Starts a network from a lab.
    ///
    /// # Errors
    /// The machine does not let it be built.
    pub fn start_lab(lab: &Lab) -> Result<Self, Error> {
        let home = Home::of_caller()?;
        let lab = lab.renamed(unique_name(lab.name()));
        let up = hopyard_runtime::up(&home, &lab, "<library>", Lifetime::Tied)?;
        let namespaces = up.running.namespaces()?.into_iter().collect();
        Ok(Network { tied: up.tied, running: up.running, namespaces, addresses: up.hosts.into_iter().collect() })
    }

    /// A node by name.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn node(&self, name: &str) -> Result<Node<'_>, Error> {
        match self.namespaces.get_key_value(name) {
            Some((name, namespace)) => Ok(Node { network: self, name, namespace }),
            None => Err(self.running.no_such_node(name).into()),
        }
    }

    /// All nodes, by name; switches are not among them.
    pub fn nodes(&self) -> impl Iterator<Item = Node<'_>> {
        self.namespaces.iter().filter(|(name, _)| self.addresses.contains_key(*name)).map(|(name, namespace)| Node {
            network: self,
            name,
            namespace,
        })
    }

    /// The name of its lab, by which `hop exec -l NAME` and the others find it as long as it runs: to look into it while
    /// a test waits, or to ask `hop why` from a test.
    pub fn name(&self) -> &str {
        self.running.name().as_str()
    }

    /// Sends an echo request from one node to the main address of another, by IPv4 if it has one, and waits for
    /// two seconds at most.
    ///
    /// # Errors
    /// There is no such node, or it has no address. That no answer comes is no error.
    pub fn ping(&self, from: &str, to: &str) -> Result<Outcome, Error> {
        self.ping_within(from, to, PING_TIMEOUT)
    }

    /// The same, with another limit: where no answer is expected it is waited for in vain.
    ///
    /// # Errors
    /// As for [`ping`](Self::ping).
    pub fn ping_within(&self, from: &str, to: &str, timeout: Duration) -> Result<Outcome, Error> {
        let from = self.node(from)?;
        let to = self.node(to)?;
        let to = to.addresses().first().copied().ok_or_else(|| Error::NoAddress(to.name.to_string()))?;
        let probes = [Probe { from: from.name.clone(), to }];
        let outcomes = ping::ping(self.running.realm(), &self.namespaces, &probes, timeout)?;
        Ok(outcomes.into_iter().next().unwrap_or(Outcome::Silence))
    }

    /// The lab behind it.
    pub fn running(&self) -> &Running {
        &self.running
    }

    /// Takes the network down now, and says what went wrong; dropping it does the same in silence.
    ///
    /// # Errors
    /// A process or a file of it could not be removed.
    pub fn stop(mut self) -> Result<(), Error> {
        self.namespaces.clear();
        Ok(self.tied.take().map_or(Ok(()), Tied::end)?)
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<&str> = self.addresses.keys().map(NsName::as_str).collect();
        f.debug_struct("Network").field("name", &self.name()).field("nodes", &nodes).finish_non_exhaustive()
    }
}

impl fmt::Debug for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("name", &self.name()).field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

impl<'a> Node<'a> {
    /// Its name.
    pub fn name(&self) -> &'a str {
        self.name.as_str()
    }

    /// Its addresses, the main one of each family first.
    pub fn addresses(&self) -> &'a [IpAddr] {
        self.network.addresses.get(self.name).map_or(&[], Vec::as_slice)
    }

    /// Its main IPv4 address.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses().iter().find_map(|addr| if let IpAddr::V4(addr) = addr { Some(*addr) } else { None })
    }

    /// Its main IPv6 address.
    pub fn ipv6(&self) -> Option<Ipv6Addr> {
        self.addresses().iter().find_map(|addr| if let IpAddr::V6(addr) = addr { Some(*addr) } else { None })
    }

    /// A command that runs in the node: in its network, with its /sys and host name, and with the
    /// lab's names in /etc/hosts. It is killed when the thread that spawned it ends.
    ///
    /// # Errors
    /// None here; spawning it fails if the network is gone.
    pub fn command(&self, program: impl Into<OsString>) -> Command {
        let cwd = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        let program = program.into();
        match self.network.running.entry(self.name.as_str(), cwd, None) {
            Ok(entry) => entry.command(program),
            // The network is gone: a command that cannot be spawned says so when it is.
            Err(_) => Command::new("/proc/self/this-network-is-gone"),
        }
    }

    /// Runs a closure in the node's network: sockets that it makes belong there, and stay there
    /// when it hands them out. It shares this process's memory; the calling thread waits for it. It
    /// must not start threads or processes: [`command`](Self::command) is for those.
    ///
    /// # Errors
    /// The network is gone.
    ///
    /// # Panics
    /// If the closure does.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> Result<R, Error> {
        let failed = |source| {
            Error::Runtime(hopyard_runtime::Error::Io { doing: format!("enter the network of {}", self.name), source })
        };
        self.network
            .running
            .realm()
            .outside()
            .map_err(failed)?
            .run(|| enter_network(self.namespace.as_fd()).map(|()| work()))
            .and_then(|entered| entered)
            .map_err(failed)
    }
}

fn render(problems: &[hopyard_model::Problem], source: &SourceFile) -> String {
    problems.iter().map(|problem| hopyard_formats::render(problem, source)).collect::<Vec<_>>().join("\n")
}

/// A name that no other network of this machine's live processes has.
fn unique_name(name: &LabName) -> LabName {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let suffix = format!("-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let kept: String = name.as_str().chars().take(LabName::MAX_LEN - suffix.len()).collect();
    format!("{kept}{suffix}").parse().unwrap_or_else(|_| name.clone())
}
