//! The gate: a network namespace beside the sandbox's, to which all that leaves the sandbox comes, and from
//! which nothing goes on. In it every address is the gate's own, so that sockets of ours answer for whoever
//! was meant.
//!
//! ```text
//!   sandbox  eth0 192.0.0.2 ------- 192.0.0.1 box0  gate: sockets of the relay
//! ```
//!
//! The firewall of the gate never changes. It drops each request for a TCP connection, unless the sender's
//! Ethernet address says that the relay has let it pass. The relay sees the request by a tap, decides,
//! connects on the other side, and only then sends the same frame once more, from the sandbox's end, by that
//! name. So a program in the sandbox finds a connection open, refused or unreachable as it really is, and
//! whatever the relay does not do does not happen.
#![allow(unsafe_code)]

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use hopyard_net::{
    BaseChain, Chain, Comparison, Endpoint, Family, Hook, IfName, Loaded, MacAddr, Mtu, NextHop, NsName, Op, Route,
    RouteKey, RouteKind, RuleStep, RuleVerdict, SysctlKey, VethEnd,
};
use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};

use super::calls::{attach_filter, bind_packet, receive, set_option};
use super::echo::{self, EchoRequest};
use super::frame::{self, EchoEnds, GATE_MAC, IcmpError, PASS_MAC, SANDBOX_MAC, Seen, Unreachable};
use crate::failure::Doing;
use crate::netlink::{Inbox, RtSocket};
use crate::nftables::{NftSocket, Owner, TableName, Transaction};
use crate::{Failure, KernelError, Realm, World, encode, namespace};

/// The addresses of the sandbox and of the gate: of the network that RFC 7335 sets aside for two hosts
/// that share nothing with the Internet, and of a unique local one.
pub const SANDBOX_ADDRESSES: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 0, 2), Ipv6Addr::new(0xfd68, 0x6f70, 0x7361, 0x6e64, 0, 0, 0, 2));
/// The gate's, at which the relay answers for names.
pub const GATE_ADDRESSES: (Ipv4Addr, Ipv6Addr) =
    (Ipv4Addr::new(192, 0, 0, 1), Ipv6Addr::new(0xfd68, 0x6f70, 0x7361, 0x6e64, 0, 0, 0, 1));

/// Where the relay's sockets listen in the gate.
const PORT: u16 = 40_000;
const ETH_P_ALL: u16 = 3;
/// linux/if_packet.h
const PACKET_IGNORE_OUTGOING: i32 = 23;
const PACKET_QDISC_BYPASS: i32 = 20;
/// As much as a frame can be; a request for a connection is much shorter.
const FRAME_BYTES: usize = 2048;
/// Requests that come at once, until they are looked at.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;

/// What the relay has of a gate. Its descriptors keep the namespaces.
#[derive(Debug)]
pub struct Gate {
    /// For each family that this kernel has: connections that were let pass, with the address that was meant
    /// as their own.
    pub listeners: Vec<TcpListener>,
    /// The same, for datagrams.
    datagrams: Vec<OwnedFd>,
    /// Raw sockets for echo requests.
    echoes: Vec<OwnedFd>,
    tap: OwnedFd,
    sandbox: OwnedFd,
}

/// A request for a connection that waits for a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request(Vec<u8>);

impl Gate {
    /// The descriptors that become readable.
    pub fn tap(&self) -> BorrowedFd<'_> {
        self.tap.as_fd()
    }

    /// Those on which datagrams come.
    pub fn datagrams(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.datagrams.iter().map(AsFd::as_fd)
    }

    /// Those on which echo requests come.
    pub fn echoes(&self) -> impl ExactSizeIterator<Item = BorrowedFd<'_>> {
        self.echoes.iter().map(AsFd::as_fd)
    }

    /// The next packet that should have left the sandbox and is not of an open connection, a datagram or an echo.
    ///
    /// # Errors
    /// Those of recv(2).
    pub fn next(&self) -> io::Result<Option<(Seen, Request)>> {
        let mut buffer = [0; FRAME_BYTES];
        loop {
            match rustix::net::recv(&self.tap, &mut buffer[..], rustix::net::RecvFlags::DONTWAIT) {
                Ok((_, length)) => {
                    let frame = &buffer[..length.min(FRAME_BYTES)];
                    if let Some(seen) = frame::tell(frame) {
                        return Ok(Some((seen, Request(frame.to_vec()))));
                    }
                }
                Err(rustix::io::Errno::AGAIN) => return Ok(None),
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Lets a request pass: a connection comes to a listener.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn let_pass(&self, request: &Request) -> io::Result<()> {
        let mut frame = request.0.clone();
        match frame::let_pass(&mut frame) {
            Some(()) => send(&self.sandbox, &frame),
            None => Ok(()),
        }
    }

    /// Says why a packet does not arrive.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn refuse(&self, request: &Request, why: Unreachable) -> io::Result<()> {
        frame::unreachable(why, &request.0).map_or(Ok(()), |frame| send(&self.tap, &frame))
    }

    /// The same of a datagram.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn refuse_datagram(&self, from: SocketAddr, to: SocketAddr, error: IcmpError) -> io::Result<()> {
        frame::datagram_error(error, from, to).map_or(Ok(()), |frame| send(&self.tap, &frame))
    }

    /// The same of an echo request.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn refuse_echo(&self, ends: &EchoEnds, error: IcmpError) -> io::Result<()> {
        frame::echo_error(ends, error).map_or(Ok(()), |frame| send(&self.tap, &frame))
    }

    /// Takes the next echo request of one of [`echoes`](Self::echoes).
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub fn next_echo(&self, socket: usize, buffer: &mut [u8]) -> io::Result<Option<EchoRequest>> {
        self.echoes.get(socket).map_or(Ok(None), |socket| echo::take(socket, buffer))
    }

    /// Gives the sandbox an echo.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn echo(&self, ends: &EchoEnds, hop_limit: u8, payload: &[u8]) -> io::Result<()> {
        frame::echo_reply(ends, hop_limit, payload).map_or(Ok(()), |frame| send(&self.tap, &frame))
    }

    /// Takes the next datagram of one of [`datagrams`](Self::datagrams), from whom and to whom.
    ///
    /// # Errors
    /// Those of recvmsg(2).
    pub fn receive(&self, socket: usize, buffer: &mut [u8]) -> io::Result<Option<(usize, SocketAddr, SocketAddr)>> {
        let Some(socket) = self.datagrams.get(socket) else { return Ok(None) };
        match receive(socket, buffer, 0) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            received => {
                received.map(|received| received.from.zip(received.to).map(|(from, to)| (received.length, from, to)))
            }
        }
    }

    /// Sends a datagram to a socket of the sandbox, as if from `from`.
    ///
    /// # Errors
    /// Those of send(2).
    pub fn send(&self, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> io::Result<()> {
        frame::datagram(from, to, payload).map_or(Ok(()), |frame| send(&self.tap, &frame))
    }

    /// Its descriptors, to be handed to another process, and how they are put together there.
    pub(super) fn into_fds(self) -> Vec<OwnedFd> {
        let mut fds = vec![self.tap, self.sandbox];
        fds.extend(self.datagrams);
        fds.extend(self.echoes);
        fds.extend(self.listeners.into_iter().map(OwnedFd::from));
        fds
    }

    /// Of [`into_fds`](Self::into_fds).
    pub(super) fn from_fds(mut fds: Vec<OwnedFd>) -> Option<Self> {
        /// Sockets for each family.
        const KINDS: usize = 3;
        let families = fds.len().checked_sub(2)? / KINDS;
        if families == 0 {
            return None;
        }
        let mut datagrams = fds.split_off(2);
        let mut echoes = datagrams.split_off(families);
        let listeners = echoes.split_off(families).into_iter().map(TcpListener::from).collect();
        let sandbox = fds.pop()?;
        Some(Gate { listeners, datagrams, echoes, tap: fds.pop()?, sandbox })
    }
}

fn send(socket: &OwnedFd, frame: &[u8]) -> io::Result<()> {
    match rustix::net::send(socket, frame, rustix::net::SendFlags::DONTWAIT) {
        // The link is full: as on every other network, what does not fit is lost, and sent again.
        Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

/// Names in here. No topology has them; they are constants, which a test parses.
struct Names {
    sandbox: NsName,
    gate: NsName,
    eth0: IfName,
    box0: IfName,
    lo: IfName,
}

impl Names {
    fn new() -> Result<Self, Failure> {
        fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Failure> {
            text.parse().map_err(|_| Failure {
                doing: format!("name {text}").into(),
                cause: io::ErrorKind::InvalidInput.into(),
            })
        }
        Ok(Names {
            sandbox: parse("sandbox")?,
            gate: parse("gate")?,
            eth0: parse("eth0")?,
            box0: parse("box0")?,
            lo: parse("lo")?,
        })
    }
}

/// Makes the network of a sandbox that reaches nothing: a loopback. By hand, for it takes two requests, and
/// [`World`] would start threads for them.
pub(super) fn make_closed() -> Result<(), NetworkError> {
    const DOING: &str = "set the sandbox's loopback up";
    let socket = RtSocket::open().doing(DOING)?;
    let lo = rustix::net::netdevice::name_to_index(&socket, "lo").doing(DOING)?;
    let (request, flags) = encode::set_up(lo, true);
    socket.ask(request, flags | NLM_F_ACK, &mut Inbox::default()).map_err(|refusal| refusal.while_doing(DOING))?;
    std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0")
        .doing("set net.ipv4.ip_unprivileged_port_start = 0 in the sandbox")?;
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", own_group()).doing("let the sandbox ping")?;
    Ok(())
}

/// The groups that may open sockets for echo requests (`ping_group_range`, icmp(7)): the command's. Others are not
/// in its user namespace.
fn own_group() -> String {
    let group = rustix::process::getegid().as_raw();
    format!("{group} {group}")
}

/// Why a sandbox has no network.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetworkError {
    #[error(transparent)]
    Kernel(#[from] KernelError),
    #[error(transparent)]
    System(#[from] Failure),
}

fn adopt(names: &Names) -> Result<(World, OwnedFd), NetworkError> {
    use rustix::fs::{Mode, OFlags};
    let own = rustix::fs::open("/proc/self/ns/net", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .doing("open the sandbox's network namespace")?;
    let mut world = World::new(Realm::host());
    world.adopt(names.sandbox.clone(), own.try_clone().doing("keep the sandbox's network namespace")?)?;
    Ok((world, own))
}

fn apply(world: &mut World, ops: &[Op]) -> Result<(), NetworkError> {
    world.apply(ops, &mut |_| {}).map_err(|failed| NetworkError::Kernel(failed.error))
}

/// A process of the sandbox may listen on any port, and ping: there is nobody else.
fn own_loopback(names: &Names, ns: &NsName) -> Vec<Op> {
    let mut ops = vec![Op::SetUp { at: Endpoint { ns: ns.clone(), dev: names.lo }, up: true }];
    for (key, value) in
        [("net.ipv4.ip_unprivileged_port_start", "0".to_owned()), ("net.ipv4.ping_group_range", own_group())]
    {
        if let Ok(key) = key.parse::<SysctlKey>() {
            ops.push(Op::SetSysctl { ns: ns.clone(), key, value });
        }
    }
    ops
}

/// Makes the gate beside the network namespace of the calling thread.
pub(super) fn make() -> Result<Gate, NetworkError> {
    let names = Names::new()?;
    let (mut world, sandbox) = adopt(&names)?;
    let families = families();
    apply(&mut world, &operations(&names, &families))?;
    let gate = world.ns_fd(&names.gate)?;
    let inside = Realm::host()
        .run(|| -> Result<Gate, NetworkError> {
            namespace::enter(&gate).doing("enter the gate")?;
            own_every_address(&families)?;
            NftSocket::open()?.commit(firewall())?;
            let tap = packet_socket("box0", true).doing("open a tap in the gate")?;
            let mut datagrams = Vec::new();
            let mut echoes = Vec::new();
            let mut listeners = Vec::new();
            for &family in &families {
                echoes.push(echo::open_gate(family).doing("open a socket in the gate")?);
                datagrams.push(transparent(family, SocketType::DGRAM).doing("open a socket in the gate")?);
                let listener = transparent(family, SocketType::STREAM).doing("open a socket in the gate")?;
                rustix::net::listen(&listener, 4096).doing("listen in the gate")?;
                listeners.push(TcpListener::from(listener));
            }
            namespace::enter(&sandbox).doing("enter the sandbox's network")?;
            let sandbox = packet_socket("eth0", false).doing("open a tap in the sandbox")?;
            Ok(Gate { listeners, datagrams, echoes, tap, sandbox })
        })
        .doing("work in the gate")??;
    Ok(inside)
}

/// IPv4, and IPv6 where the machine has it.
fn families() -> Vec<Family> {
    let mut families = vec![Family::Ipv4];
    if std::path::Path::new("/proc/sys/net/ipv6").exists() {
        families.push(Family::Ipv6);
    }
    families
}

fn operations(names: &Names, families: &[Family]) -> Vec<Op> {
    let at = |ns: &NsName, dev: IfName| Endpoint { ns: ns.clone(), dev };
    let (inner, outer) = (at(&names.sandbox, names.eth0), at(&names.gate, names.box0));
    let mac = MacAddr::from_bytes;
    let end = |at: &Endpoint, bytes| VethEnd { at: at.clone(), mac: Some(mac(bytes)), mtu: Mtu::try_from(65_535).ok() };
    let mut ops = vec![
        Op::AddNs(names.gate.clone()),
        Op::AddVeth { a: end(&inner, SANDBOX_MAC), b: end(&outer, GATE_MAC) },
        Op::SetUp { at: at(&names.gate, names.lo), up: true },
    ];
    let set = |ops: &mut Vec<Op>, ns: &NsName, key: &str, value: &str| {
        if let Ok(key) = key.parse::<SysctlKey>() {
            ops.push(Op::SetSysctl { ns: ns.clone(), key, value: value.to_owned() });
        }
    };
    // A cookie would come back to a port on which nobody listens.
    set(&mut ops, &names.gate, "net.ipv4.tcp_syncookies", "0");
    // The relay answers, or nobody.
    set(&mut ops, &names.gate, "net.ipv4.icmp_echo_ignore_all", "1");
    if families.contains(&Family::Ipv6) {
        set(&mut ops, &names.gate, "net.ipv6.icmp.echo_ignore_all", "1");
        for ns in [&names.sandbox, &names.gate] {
            set(&mut ops, ns, "net.ipv6.conf.all.disable_ipv6", "0");
            set(&mut ops, ns, "net.ipv6.conf.default.disable_ipv6", "0");
        }
    }
    ops.extend(own_loopback(names, &names.sandbox));
    for &family in families {
        let (own, gate, length) = match family {
            Family::Ipv4 => (SANDBOX_ADDRESSES.0.into(), GATE_ADDRESSES.0.into(), 29),
            Family::Ipv6 => (SANDBOX_ADDRESSES.1.into(), GATE_ADDRESSES.1.into(), 64),
        };
        let net = |addr| hopyard_net::IpNet::new(addr, length);
        for (at, addr) in [(&inner, own), (&outer, gate)] {
            ops.extend(net(addr).ok().map(|addr| Op::AddAddr { at: at.clone(), addr }));
        }
        // Nobody asks: neither end answers.
        ops.push(Op::SetNeigh { at: inner.clone(), addr: gate, mac: mac(GATE_MAC) });
        ops.push(Op::SetNeigh { at: outer.clone(), addr: own, mac: mac(SANDBOX_MAC) });
    }
    ops.extend([inner, outer].map(|at| Op::SetUp { at, up: true }));
    for &family in families {
        let via = match family {
            Family::Ipv4 => GATE_ADDRESSES.0.into(),
            Family::Ipv6 => GATE_ADDRESSES.1.into(),
        };
        let hop = NextHop { via: Some(via), dev: names.eth0, weight: 1 };
        let key = RouteKey::main(family.default_prefix());
        let route = Route { key, kind: RouteKind::Unicast(vec![hop]), src: None, hop_limit: None };
        ops.push(Op::SetRoute { ns: names.sandbox.clone(), route });
    }
    ops
}

/// `ip route add local default dev lo`, in both families: whatever comes is taken in.
fn own_every_address(families: &[Family]) -> Result<(), NetworkError> {
    const DOING: &str = "make every address the gate's own";
    let socket = RtSocket::open().doing(DOING)?;
    let lo = rustix::net::netdevice::name_to_index(&socket, "lo").doing(DOING)?;
    for &family in families {
        let request = encode::every_address_is_local(family, lo);
        socket
            .ask(request, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &mut Inbox::default())
            .map_err(|refusal| refusal.while_doing(DOING))?;
    }
    Ok(())
}

/// ```text
/// tcp flags & (syn | ack) == syn ether saddr PASS tproxy to :PORT accept
/// tcp flags & (syn | ack) == syn drop
/// meta l4proto tcp accept
/// meta l4proto udp tproxy to :PORT accept
/// icmp type echo-request accept
/// icmpv6 type echo-request accept
/// ```
fn firewall() -> Transaction {
    const REGISTER: u32 = 1;
    const PORT_REGISTER: u32 = 2;
    const ETHERNET: u32 = 0;
    const TRANSPORT: u32 = 2;
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    const ICMP: u8 = 1;
    const ICMP6: u8 = 58;
    const ECHO: u8 = 8;
    const ECHO6: u8 = 128;
    const SYN: u8 = 0x02;
    const SYN_ACK: u8 = 0x12;
    let equal = |with: &[u8]| RuleStep::Compare { register: REGISTER, how: Comparison::Equal, with: with.to_vec() };
    let protocol = |number: u8| [RuleStep::Load { register: REGISTER, what: Loaded::Layer4Protocol }, equal(&[number])];
    let wants_connection = [
        RuleStep::Payload { register: REGISTER, base: TRANSPORT, offset: 13, length: 1 },
        RuleStep::Bitwise { from: REGISTER, to: REGISTER, mask: vec![SYN_ACK], xor: vec![0] },
        equal(&[SYN]),
    ];
    let passes = [RuleStep::Payload { register: REGISTER, base: ETHERNET, offset: 6, length: 6 }, equal(&PASS_MAC)];
    let to_relay = [
        RuleStep::Immediate { register: PORT_REGISTER, value: PORT.to_be_bytes().to_vec() },
        RuleStep::TransparentProxy { family: None, address: None, port: Some(PORT_REGISTER) },
        RuleStep::Verdict(RuleVerdict::Accept),
    ];
    let is_echo =
        |kind: u8| [RuleStep::Payload { register: REGISTER, base: TRANSPORT, offset: 0, length: 1 }, equal(&[kind])];
    let rules = [
        [&protocol(TCP)[..], &wants_connection, &passes, &to_relay].concat(),
        [&protocol(TCP)[..], &wants_connection, &[RuleStep::Verdict(RuleVerdict::Drop)]].concat(),
        [&protocol(TCP)[..], &[RuleStep::Verdict(RuleVerdict::Accept)]].concat(),
        [&protocol(UDP)[..], &to_relay].concat(),
        [&protocol(ICMP)[..], &is_echo(ECHO), &[RuleStep::Verdict(RuleVerdict::Accept)]].concat(),
        [&protocol(ICMP6)[..], &is_echo(ECHO6), &[RuleStep::Verdict(RuleVerdict::Accept)]].concat(),
    ];
    let table = TableName::inet("hopyard");
    let chain = Chain {
        family: table.family.clone(),
        table: table.name.clone(),
        name: "gate".to_owned(),
        base: Some(BaseChain {
            kind: "filter".to_owned(),
            hook: Hook::Prerouting,
            priority: -150,
            drops: true,
            devices: Vec::new(),
        }),
        rules: Vec::new(),
    };
    let mut transaction = Transaction::new();
    transaction.add_table(&table, Owner::Nobody);
    transaction.add_chain(&chain);
    for steps in &rules {
        transaction.add_rule(&chain, steps, None);
    }
    transaction
}

/// A socket that answers for every address (`IP_TRANSPARENT`, ip(7)).
fn transparent(family: Family, kind: SocketType) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let domain = match family {
        Family::Ipv4 => AddressFamily::INET,
        Family::Ipv6 => AddressFamily::INET6,
    };
    let socket = rustix::net::socket_with(domain, kind, flags, None)?;
    let (level, transparent, tell_destination) = match family {
        Family::Ipv4 => (libc::SOL_IP, libc::IP_TRANSPARENT, libc::IP_RECVORIGDSTADDR),
        Family::Ipv6 => (libc::SOL_IPV6, libc::IPV6_TRANSPARENT, libc::IPV6_RECVORIGDSTADDR),
    };
    set_option(socket.as_fd(), level, transparent, 1)?;
    if family == Family::Ipv6 {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    if kind == SocketType::DGRAM {
        set_option(socket.as_fd(), level, tell_destination, 1)?;
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
    }
    let any: SocketAddr = match family {
        Family::Ipv4 => (Ipv4Addr::UNSPECIFIED, PORT).into(),
        Family::Ipv6 => (Ipv6Addr::UNSPECIFIED, PORT).into(),
    };
    rustix::net::bind(&socket, &any)?;
    Ok(socket)
}

/// A packet socket on an interface; to send frames, and if it `listens`, to see what [`tap_filter`] selects.
fn packet_socket(interface: &str, listens: bool) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    // Of no protocol: until it is bound it sees nothing.
    let socket = rustix::net::socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    let index = rustix::net::netdevice::name_to_index(&socket, interface)?;
    set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_QDISC_BYPASS, 1)?;
    if listens {
        set_option(socket.as_fd(), libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)?;
        // At most what `net.core.rmem_max` allows.
        sockopt::set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER_BYTES)?;
        attach_filter(socket.as_fd(), &mut tap_filter())?;
    }
    bind_packet(socket.as_fd(), if listens { ETH_P_ALL } else { 0 }, index)?;
    debug_assert!(socket.as_raw_fd() > 2, "the standard streams are open");
    Ok(socket)
}

/// Requests for TCP connections, and what is neither TCP nor UDP.
///
/// Of the latter the relay only says that it does not pass.
fn tap_filter() -> [libc::sock_filter; 19] {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter {
        code: u16::try_from(code).unwrap_or(u16::MAX),
        jt,
        jf,
        k,
    };
    let load = |size: u32, at: u32| op(libc::BPF_LD | size | libc::BPF_ABS, 0, 0, at);
    let if_equal = |value: u32, jt: u8, jf: u8| op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, jt, jf, value);
    let give = |bytes: u32| op(libc::BPF_RET | libc::BPF_K, 0, 0, bytes);
    // Jumps count from the next instruction.
    [
        /*  0 */ load(libc::BPF_H, 12),
        /*  1 */ if_equal(0x0800, 1, 0),
        /*  2 */ if_equal(0x86dd, 8, 14),
        // IPv4: the protocol; of TCP, the flags of what is no later fragment.
        /*  3 */
        load(libc::BPF_B, 23),
        /*  4 */ if_equal(17, 12, 0),
        /*  5 */ if_equal(6, 0, 12),
        /*  6 */ load(libc::BPF_H, 20),
        /*  7 */ op(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, 9, 0, 0x1fff),
        /*  8 */ op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, 0, 0, 14),
        /*  9 */ op(libc::BPF_LD | libc::BPF_B | libc::BPF_IND, 0, 0, 14 + 13),
        /* 10 */ op(libc::BPF_JMP | libc::BPF_JA, 0, 0, 4),
        // IPv6: the next header, which has to be the last one.
        /* 11 */ load(libc::BPF_B, 20),
        /* 12 */ if_equal(17, 4, 0),
        /* 13 */ if_equal(6, 0, 4),
        /* 14 */ load(libc::BPF_B, 14 + 40 + 13),
        // Of the flags, SYN without ACK.
        /* 15 */
        op(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, 0, 0, 0x12),
        /* 16 */ if_equal(0x02, 1, 0),
        /* 17 */ give(0),
        /* 18 */ give(u32::MAX),
    ]
}
