//! Sandboxes: a command that reaches what is allowed, and nothing else.
//!
//! ```text
//!  the command ── its own network ── gate │ relay ── agent ── the network outside
//! ```
//!
//! No packet of the sandbox ever comes to the network outside: the relay ends each connection at the gate and
//! makes another one outside. So nothing is changed there, and nothing has to be cleaned up.

mod dns;
mod policy;
mod publish;
mod record;
mod relay;
mod splice;
mod surroundings;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;
use std::thread::{self, JoinHandle};

use hopyard_kernel::agent::{Agent, Kind};
use hopyard_kernel::sandbox::{Datagrams, Sandbox, SandboxError, SandboxSpec, WayOut};
use hopyard_kernel::{Failure, KernelError, Process, enter_network, rights};
use hopyard_model::LabName;
use hopyard_net::{Allow, Deny, Family, Transport};
use thiserror::Error as ThisError;

use crate::error::{Error, IoContext};
use crate::ns::{self, EntryName};
use crate::running::Running;
use policy::Policy;
use relay::{Door, Ended, Published, Relay, Tools};

pub use publish::{Publish, PublishError};
pub use record::{Attempt, Outcome as Heard, Record, Tries};

/// Which network is outside.
#[derive(Debug)]
pub enum Outside {
    /// That of the caller.
    Here,
    /// A node of a lab that runs.
    Node {
        /// The lab.
        lab: Box<Running>,
        /// The node.
        node: String,
    },
    /// A namespace that has a name.
    Named(EntryName),
}

/// What a sandbox is to be.
#[derive(Debug)]
pub struct Wanted {
    /// What may be reached outside.
    pub allow: Vec<Allow>,
    /// What of it may not be reached nevertheless.
    pub deny: Vec<Deny>,
    /// What outside may reach.
    pub publish: Vec<Publish>,
    /// The network outside.
    pub outside: Outside,
    /// Note what is tried.
    pub records: bool,
    /// The working directory.
    pub cwd: PathBuf,
}

/// How it went.
#[derive(Debug)]
pub struct Outcome {
    /// The exit status of the command, by the shell's convention.
    pub status: u8,
    /// What it tried, where that was to be noted.
    pub record: Option<Record>,
    /// It would have pinged what is allowed, but the network outside does not let the caller.
    pub may_not_ping: bool,
}

/// Why a command did not run in a sandbox to its end.
#[derive(Debug, ThisError)]
pub enum RunError {
    /// The sandbox could not be made.
    #[error(transparent)]
    Runtime(#[from] Error),
    /// The command could not be started.
    #[error("the command cannot be started: {0}")]
    Command(io::Error),
    /// A port outside cannot be had.
    #[error("cannot listen on {addr}/{transport} outside: {source}")]
    Publish {
        /// The address and port.
        addr: SocketAddr,
        /// The protocol.
        transport: Transport,
        /// Why not.
        source: io::Error,
    },
    /// A standard stream would be a way out.
    #[error(transparent)]
    Stream(WayOut),
    /// The lab that was the network outside went down.
    #[error("the lab `{0}` went down, and the sandbox with it")]
    LabIsGone(LabName),
}

impl From<Failure> for RunError {
    fn from(failure: Failure) -> Self {
        RunError::Runtime(failure.into())
    }
}

impl From<KernelError> for RunError {
    fn from(error: KernelError) -> Self {
        RunError::Runtime(error.into())
    }
}

/// Runs a command in a sandbox, until it ends. The process must have one thread.
///
/// # Errors
/// The sandbox cannot be made, or the command cannot be started. How the command ends is none.
pub fn run(wanted: &Wanted, mut command: Command) -> Result<Outcome, RunError> {
    surroundings::clear_environment(&mut command);
    let is_closed = wanted.allow.is_empty() && wanted.publish.is_empty() && !wanted.records;
    let outside = if is_closed {
        // Nobody goes there, but it has to be there: what was misspelt is said.
        check(&wanted.outside)?;
        None
    } else {
        Some(agent_outside(&wanted.outside)?)
    };
    let published = outside.as_ref().map(|agent| listen(agent, &wanted.publish)).transpose()?.unwrap_or_default();
    let mut sandbox = start(wanted, outside.is_some(), command)?;
    let relay = match (outside, sandbox.take_gate()) {
        (Some(outside), Some(gate)) => {
            let inside = (!published.is_empty()).then(|| agent_inside(&sandbox)).transpose();
            let tools = inside.and_then(|inside| {
                let (reader, writer) = io::pipe().context(|| "make a pipe".to_owned())?;
                let policy = Policy::new(&wanted.allow, &wanted.deny, wanted.records);
                let lab = keeper_of(&wanted.outside)?;
                let records = wanted.records;
                let stop = OwnedFd::from(reader);
                Ok((Tools { gate, outside, inside, published, policy, records, stop, lab }, writer))
            });
            match tools.and_then(|(tools, writer)| Ok((spawn(tools, &sandbox)?, writer))) {
                Ok(relay) => Some(relay),
                Err(error) => {
                    sandbox.kill();
                    // The first error is the one to tell.
                    sandbox.wait().ok();
                    return Err(error.into());
                }
            }
        }
        _ => None,
    };
    let status = sandbox.wait().context(|| "wait for the command".to_owned())?;
    let Some((relay, stop)) = relay else {
        return Ok(Outcome { status, record: None, may_not_ping: false });
    };
    drop(stop);
    let ended = relay.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let ended = ended.context(|| "relay between the sandbox and the network outside".to_owned())?;
    match &wanted.outside {
        Outside::Node { lab, .. } if ended.lab_is_gone => Err(RunError::LabIsGone(lab.name().clone())),
        _ => Ok(Outcome { status, record: wanted.records.then_some(ended.record), may_not_ping: ended.may_not_ping }),
    }
}

fn start(wanted: &Wanted, gate: bool, command: Command) -> Result<Sandbox, RunError> {
    let (cover_dirs, reached) = surroundings::covers().context(|| "list the sockets of the machine".to_owned())?;
    let etc = surroundings::etc_files(gate);
    let etc: Vec<(&str, &str)> = etc.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let spec = SandboxSpec {
        user_namespace: !rights::is_privileged(),
        gate,
        cwd: &wanted.cwd,
        etc: &etc,
        cover_dirs: &cover_dirs,
        reached: &reached,
    };
    Sandbox::start(&spec, command).map_err(|error| match error {
        SandboxError::System(failure) => failure.into(),
        SandboxError::Command(error) => RunError::Command(error),
        SandboxError::Stream(way_out) => RunError::Stream(way_out),
    })
}

/// The relay works on a thread of its own; where it ends by itself, so does the sandbox.
fn spawn(tools: Tools, sandbox: &Sandbox) -> Result<JoinHandle<io::Result<Ended>>, Error> {
    const DOING: &str = "start the relay of the sandbox";
    // Each connection takes two descriptors. The command has been started with the limit as it was.
    crate::keep_room_for_files();
    let killer = sandbox.killer().context(|| DOING.to_owned())?;
    let relay = Relay::new(tools).context(|| DOING.to_owned())?;
    let work = move || {
        let ended = relay.run();
        if !matches!(&ended, Ok(ended) if !ended.lab_is_gone) {
            killer.kill()?;
        }
        ended
    };
    thread::Builder::new().name("hop-relay".to_owned()).spawn(work).context(|| DOING.to_owned())
}

fn check(outside: &Outside) -> Result<(), Error> {
    match outside {
        Outside::Here => Ok(()),
        Outside::Node { lab, node } => lab.entry(node, PathBuf::from("/"), None).map(drop),
        Outside::Named(name) => ns::entry(name, None, None).map(drop),
    }
}

fn agent_outside(outside: &Outside) -> Result<Agent, Error> {
    Ok(match outside {
        Outside::Here => Agent::start(|| Ok(())),
        Outside::Node { lab, node } => {
            let entry = lab.entry(node, PathBuf::from("/"), None)?;
            Agent::start(move || entry.enter_to_look())
        }
        Outside::Named(name) => {
            let entry = ns::entry(name, None, None)?;
            Agent::start(move || entry.enter())
        }
    }?)
}

fn agent_inside(sandbox: &Sandbox) -> Result<Agent, Error> {
    let (realm, network) = sandbox.network()?;
    Ok(Agent::start(move || {
        realm.join()?;
        enter_network(std::os::fd::AsFd::as_fd(&network))
            .map_err(|cause| Failure { doing: "enter the sandbox's network".into(), cause })
    })?)
}

fn keeper_of(outside: &Outside) -> Result<Option<Process>, Error> {
    match outside {
        Outside::Node { lab, .. } => {
            Process::open(lab.keeper().pid()).map(Some).context(|| "take hold of the lab's keeper".to_owned())
        }
        _ => Ok(None),
    }
}

/// Listens outside on what is published.
fn listen(agent: &Agent, publish: &[Publish]) -> Result<Vec<Published>, RunError> {
    let mut published = Vec::new();
    for publish in publish {
        let before = published.len();
        for addr in publish.addresses() {
            match listen_on(agent, addr, publish.transport) {
                Ok(door) => published.push(Published { door, inner: publish.inner }),
                // The loopback has an address of IPv6 as well, or not.
                Err(error) if published.len() > before && is_no_address(&error) => {}
                Err(source) => return Err(RunError::Publish { addr, transport: publish.transport, source }),
            }
        }
    }
    Ok(published)
}

fn listen_on(agent: &Agent, addr: SocketAddr, transport: Transport) -> io::Result<Door> {
    let family = Family::of(addr.ip());
    match transport {
        Transport::Udp => Ok(Door::Datagrams(Datagrams::bind(agent.socket(family, Kind::Datagram)?, addr)?)),
        Transport::Tcp => {
            let socket = agent.socket(family, Kind::Stream)?;
            rustix::net::sockopt::set_socket_reuseaddr(&socket, true)?;
            if addr.is_ipv6() {
                rustix::net::sockopt::set_ipv6_v6only(&socket, true)?;
            }
            rustix::net::bind(&socket, &addr)?;
            rustix::net::listen(&socket, 4096)?;
            Ok(Door::Listener(socket))
        }
    }
}

fn is_no_address(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::ADDRNOTAVAIL | Errno::AFNOSUPPORT))
}
