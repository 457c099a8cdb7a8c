//! The comparison program: does what `hop up` makes the kernel do, from ready-made requests, and
//! nothing else. It keeps no record, names nothing, starts no keeper; its namespaces end with it.
#![allow(unsafe_code)]

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::Failure;
use crate::course::OPTIONAL;

const SIOCGSKNS: libc::Ioctl = 0x894c;
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GLINK: u32 = 0x0a;
const THREADS: usize = 2;
/// A datagram must fit the send buffer.
const DATAGRAM: usize = 160_000;
/// How long anything may take that the kernel does later.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many namespaces may share a procfs before its one hash chain is felt.
const SPACES_PER_PROCFS: usize = 512;

struct Space<'a> {
    forwarding: u32,
    ports: &'a [[u8; 16]],
    bridges: &'a [[u8; 16]],
    config: &'a [u8],
    questions: &'a [u8],
    late: &'a [u8],
}

struct Send<'a> {
    space: usize,
    patches: Vec<(usize, usize)>,
    bytes: &'a [u8],
}

struct Course<'a> {
    from: usize,
    to: Vec<(bool, &'a [u8])>,
    spaces: Vec<Space<'a>>,
    sends: Vec<Send<'a>>,
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], Failure> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(|| Failure::new("the course is cut short"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, Failure> {
        let bytes = self.take(4)?;
        Ok(bytes.try_into().map(u32::from_ne_bytes).unwrap_or_default() as usize)
    }

    fn names(&mut self) -> Result<&'a [[u8; 16]], Failure> {
        let count = self.number()?;
        Ok(self.take(16 * count)?.as_chunks::<16>().0)
    }

    fn blob(&mut self) -> Result<&'a [u8], Failure> {
        let length = self.number()?;
        let bytes = self.take(length)?;
        self.take(length.next_multiple_of(4) - length)?;
        Ok(bytes)
    }
}

fn parse(file: &[u8]) -> Result<Course<'_>, Failure> {
    let mut reader = Reader(file);
    let spaces = reader.number()?;
    let from = reader.number()?;
    let to = (0..reader.number()?)
        .map(|_| Ok((reader.number()? == 1, reader.take(16)?)))
        .collect::<Result<Vec<_>, Failure>>()?;
    let spaces = (0..spaces)
        .map(|_| {
            let forwarding = u32::try_from(reader.number()?).unwrap_or_default();
            let (ports, bridges) = (reader.names()?, reader.names()?);
            let (config, questions, late) = (reader.blob()?, reader.blob()?, reader.blob()?);
            Ok(Space { forwarding, ports, bridges, config, questions, late })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    let sends = (0..reader.number()?)
        .map(|_| {
            let space = reader.number()?;
            let patches = (0..reader.number()?)
                .map(|_| Ok((reader.number()?, reader.number()?)))
                .collect::<Result<Vec<_>, Failure>>()?;
            Ok(Send { space, patches, bytes: reader.blob()? })
        })
        .collect::<Result<Vec<_>, Failure>>()?;
    Ok(Course { from, to, spaces, sends })
}

/// Runs the course, writes a byte to `out` when the first packet has been answered, and returns.
pub(crate) fn run(course: &Path, out: &mut impl io::Write) -> Result<(), Failure> {
    let file = std::fs::read(course)?;
    let course = parse(&file)?;
    raise_descriptor_limit();
    let sockets = make_spaces(&course)?;
    make_links(&course, &sockets)?;
    in_parallel(course.spaces.len(), |next| {
        let mut inbox = vec![0; 32 << 10];
        while let Some(at) = next() {
            submit(sockets[at].as_raw_fd(), course.spaces[at].config, &mut inbox)?;
        }
        Ok(())
    })?;
    in_parallel(course.spaces.len(), |next| {
        while let Some(at) = next() {
            for device in course.spaces[at].ports {
                activate(sockets[at].as_raw_fd(), device)?;
            }
        }
        Ok(())
    })?;
    in_parallel(course.spaces.len(), |next| {
        while let Some(at) = next() {
            await_addresses(sockets[at].as_raw_fd(), course.spaces[at].questions)?;
        }
        Ok(())
    })?;
    let mut inbox = vec![0; 32 << 10];
    for (space, socket) in course.spaces.iter().zip(&sockets).filter(|(space, _)| !space.late.is_empty()) {
        submit(socket.as_raw_fd(), space.late, &mut inbox)?;
        for device in space.bridges {
            activate(socket.as_raw_fd(), device)?;
        }
    }
    enter(sockets[course.from].as_raw_fd())?;
    for (is_ipv6, address) in &course.to {
        ping(*is_ipv6, address)?;
    }
    out.write_all(b"!")?;
    out.flush()?;
    // The kernel closes the rest.
    std::process::exit(0)
}

fn in_parallel(
    pieces: usize,
    work: impl Fn(&mut dyn FnMut() -> Option<usize>) -> Result<(), Failure> + Sync,
) -> Result<(), Failure> {
    let taken = AtomicUsize::new(0);
    let mut next = || Some(taken.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < pieces);
    std::thread::scope(|scope| {
        let others: Vec<_> = (1..if pieces < 8 { 1 } else { THREADS })
            .map(|_| {
                scope.spawn(|| {
                    let mut next = || Some(taken.fetch_add(1, Ordering::Relaxed)).filter(|&at| at < pieces);
                    work(&mut next)
                })
            })
            .collect();
        let own = work(&mut next);
        others.into_iter().fold(own, |sum, other| sum.and(other.join().unwrap_or_else(|_| Err(Failure::new("panic")))))
    })
}

fn make_spaces(course: &Course<'_>) -> Result<Vec<OwnedFd>, Failure> {
    let sockets: Mutex<Vec<Option<OwnedFd>>> = Mutex::new((0..course.spaces.len()).map(|_| None).collect());
    // What the host has is what new namespaces have.
    let is_on = |key: &str| std::fs::read_to_string(key).is_ok_and(|text| text.trim() == "1");
    let fresh = u32::from(is_on("/proc/sys/net/ipv4/ip_forward"))
        | u32::from(is_on("/proc/sys/net/ipv6/conf/all/forwarding")) << 1;
    in_parallel(course.spaces.len(), |next| {
        let mut procfs: Option<OwnedFd> = None;
        let mut arrivals = 0;
        let mut own = Vec::new();
        // This thread stays in the last of them, which is as good a place as any.
        while let Some(at) = next() {
            // SAFETY: takes this thread, and nothing else, into a new namespace.
            check(unsafe { libc::unshare(libc::CLONE_NEWNET) }, "make a namespace")?;
            let socket = netlink_socket()?;
            let wanted = course.spaces[at].forwarding;
            // Bits 0 and 1: on; bits 2 and 3: off. What a new namespace has anyway is not written.
            let on = wanted & !fresh & 3;
            let off = wanted >> 2 & fresh & 3;
            if on | off != 0 {
                if arrivals % SPACES_PER_PROCFS == 0 && arrivals > 0 {
                    procfs = Some(mount_procfs()?);
                }
                arrivals += 1;
                for (bit, path) in [(1, c"net/ipv4/ip_forward"), (2, c"net/ipv6/conf/all/forwarding")] {
                    if on & bit != 0 {
                        write_sysctl(procfs.as_ref(), path, b"1")?;
                    } else if off & bit != 0 {
                        write_sysctl(procfs.as_ref(), path, b"0")?;
                    }
                }
            }
            own.push((at, socket));
        }
        let mut all = sockets.lock().map_err(|_| Failure::new("panic"))?;
        for (at, socket) in own {
            all[at] = Some(socket);
        }
        Ok(())
    })?;
    let sockets = sockets.into_inner().map_err(|_| Failure::new("panic"))?;
    sockets.into_iter().map(|socket| socket.ok_or_else(|| Failure::new("a namespace is missing"))).collect()
}

fn make_links(course: &Course<'_>, sockets: &[OwnedFd]) -> Result<(), Failure> {
    let mut inbox = vec![0; 32 << 10];
    let mut bytes = Vec::new();
    let mut peers = Vec::new();
    for send in &course.sends {
        bytes.clear();
        bytes.extend_from_slice(send.bytes);
        for &(offset, space) in &send.patches {
            let peer = namespace_of(sockets[space].as_raw_fd())?;
            bytes[offset..offset + 4].copy_from_slice(&peer.as_raw_fd().to_ne_bytes());
            peers.push(peer);
        }
        submit(sockets[send.space].as_raw_fd(), &bytes, &mut inbox)?;
        peers.clear();
    }
    Ok(())
}

/// Sends requests; the kernel has carried them out when this returns.
fn submit(socket: RawFd, mut bytes: &[u8], inbox: &mut [u8]) -> Result<(), Failure> {
    while !bytes.is_empty() {
        let mut length = 0;
        while length < bytes.len() {
            let next = length + word(bytes, length).next_multiple_of(4).max(16);
            if next > DATAGRAM && length > 0 {
                break;
            }
            length = next;
        }
        let (now, later) = bytes.split_at(length.min(bytes.len()));
        // SAFETY: the buffer and its length are those of a slice that lives through the call.
        let sent = unsafe { libc::send(socket, now.as_ptr().cast(), now.len(), 0) };
        check_size(sent, "send requests")?;
        loop {
            // SAFETY: as above; the kernel writes at most so many bytes.
            let got = unsafe { libc::recv(socket, inbox.as_mut_ptr().cast(), inbox.len(), libc::MSG_DONTWAIT) };
            let Ok(got) = usize::try_from(got) else { break };
            let mut at = 0;
            while at + 20 <= got {
                let code = i32::from_ne_bytes([inbox[at + 16], inbox[at + 17], inbox[at + 18], inbox[at + 19]]);
                if inbox[at + 4] == 2 && code != 0 && word(inbox, at + 8) != OPTIONAL as usize {
                    let error = io::Error::from_raw_os_error(-code);
                    return Err(Failure::new(format!("a request was refused: {error}")));
                }
                at += word(inbox, at).next_multiple_of(4).max(16);
            }
        }
        bytes = later;
    }
    Ok(())
}

/// Waits until the kernel has, for each of the addresses asked for, the route by which it takes
/// packets in: it makes them on a work queue, behind the answer to the request for the address.
fn await_addresses(socket: RawFd, mut questions: &[u8]) -> Result<(), Failure> {
    const RTM_NEWROUTE: u8 = 24;
    const RTN_LOCAL: u8 = 2;
    let deadline = Instant::now() + PATIENCE;
    while !questions.is_empty() && Instant::now() < deadline {
        let (question, rest) = questions.split_at(word(questions, 0).clamp(16, questions.len()));
        let mut answer = [0u8; 1024];
        // SAFETY: buffers and lengths are those of slices that live through the calls.
        let got = unsafe {
            check_size(libc::send(socket, question.as_ptr().cast(), question.len(), 0), "ask for a route")?;
            libc::recv(socket, answer.as_mut_ptr().cast(), answer.len(), 0)
        };
        check_size(got, "be told a route")?;
        if answer[4] == RTM_NEWROUTE && answer[23] == RTN_LOCAL {
            questions = rest;
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    Ok(())
}

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes) as usize
}

fn check(result: i32, doing: &str) -> Result<i32, Failure> {
    if result < 0 { Err(Failure::new(format!("{doing}: {}", io::Error::last_os_error()))) } else { Ok(result) }
}

fn check_size(result: isize, doing: &str) -> Result<(), Failure> {
    if result < 0 { Err(Failure::new(format!("{doing}: {}", io::Error::last_os_error()))) } else { Ok(()) }
}

fn owned(fd: RawFd, doing: &str) -> Result<OwnedFd, Failure> {
    let fd = check(fd, doing)?;
    // SAFETY: the kernel just made it for the caller, who passes it on.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn netlink_socket() -> Result<OwnedFd, Failure> {
    // SAFETY: no memory is passed.
    owned(unsafe { libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) }, "open a socket")
}

fn namespace_of(socket: RawFd) -> Result<OwnedFd, Failure> {
    // SAFETY: this request takes no argument.
    owned(unsafe { libc::ioctl(socket, SIOCGSKNS) }, "open a namespace")
}

fn enter(socket: RawFd) -> Result<(), Failure> {
    let namespace = namespace_of(socket)?;
    // SAFETY: takes this thread into the namespace.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }, "enter a namespace").map(drop)
}

fn write_sysctl(procfs: Option<&OwnedFd>, path: &std::ffi::CStr, value: &[u8]) -> Result<(), Failure> {
    let mut full = procfs.map_or(b"/proc/sys/".to_vec(), |_| b"sys/".to_vec());
    full.extend_from_slice(path.to_bytes_with_nul());
    let root = procfs.map_or(libc::AT_FDCWD, AsRawFd::as_raw_fd);
    // SAFETY: the path ends in a zero byte.
    let fd = unsafe { libc::openat(root, full.as_ptr().cast(), libc::O_WRONLY | libc::O_CLOEXEC) };
    File::from(owned(fd, "open a sysctl")?).write_all(value)?;
    Ok(())
}

/// A procfs of its own, mounted nowhere.
fn mount_procfs() -> Result<OwnedFd, Failure> {
    const FSCONFIG_CMD_CREATE: i32 = 6;
    // SAFETY: the name ends in a zero byte; the other calls take no memory.
    let context = unsafe { libc::syscall(libc::SYS_fsopen, c"proc".as_ptr(), 1) };
    let context = owned(RawFd::try_from(context).unwrap_or(-1), "open a procfs")?;
    // SAFETY: no memory is passed.
    let made = unsafe { libc::syscall(libc::SYS_fsconfig, context.as_raw_fd(), FSCONFIG_CMD_CREATE, 0, 0, 0) };
    check(i32::try_from(made).unwrap_or(-1), "make a procfs")?;
    // SAFETY: no memory is passed.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, context.as_raw_fd(), 1, 0) };
    owned(RawFd::try_from(mount).unwrap_or(-1), "mount a procfs")
}

/// Has the kernel activate an interface now instead of whenever it gets to that.
fn activate(socket: RawFd, device: &[u8; 16]) -> Result<(), Failure> {
    let mut value = [ETHTOOL_GLINK, 0];
    // SAFETY: `ifreq` is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(device) {
        *to = from.cast_signed();
    }
    request.ifr_ifru.ifru_data = value.as_mut_ptr().cast();
    // SAFETY: both live through the call; the kernel reads and writes 8 bytes for this command.
    check(unsafe { libc::ioctl(socket, SIOCETHTOOL, &raw mut request) }, "activate an interface").map(drop)
}

fn raise_descriptor_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` lives through both calls. Refused, it shows where a descriptor is missing.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// `value` is what the option takes: an int, or a `timeval`.
fn set_option<T>(socket: &OwnedFd, level: i32, option: i32, value: &T) -> Result<(), Failure> {
    let size = libc::socklen_t::try_from(size_of::<T>()).unwrap_or_default();
    // SAFETY: the value lives through the call, and its size is given.
    let set = unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size) };
    check(set, "set an option of a socket").map(drop)
}

/// Sends an echo request from the namespace of this thread, and waits for the reply.
fn ping(is_ipv6: bool, address: &[u8]) -> Result<(), Failure> {
    let (family, protocol) =
        if is_ipv6 { (libc::AF_INET6, libc::IPPROTO_ICMPV6) } else { (libc::AF_INET, libc::IPPROTO_ICMP) };
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    let socket = owned(fd, "open a socket for echo requests")?;
    let (level, option) =
        if is_ipv6 { (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS) } else { (libc::IPPROTO_IP, libc::IP_TTL) };
    set_option(&socket, level, option, &255i32)?;
    let timeout = libc::timeval { tv_sec: 5, tv_usec: 0 };
    set_option(&socket, libc::SOL_SOCKET, libc::SO_RCVTIMEO, &timeout)?;
    // `struct sockaddr_in` and `sockaddr_in6` as bytes: the address is behind port, or port and flow.
    let mut to = [0u8; 28];
    to[..2].copy_from_slice(&u16::try_from(family).unwrap_or_default().to_ne_bytes());
    let length = if is_ipv6 {
        to[8..24].copy_from_slice(&address[..16]);
        28
    } else {
        to[4..8].copy_from_slice(&address[..4]);
        16
    };
    let id = std::process::id().to_ne_bytes();
    let mut request = [if is_ipv6 { 128 } else { 8 }, 0, 0, 0, id[0], id[1], 0, 1];
    if !is_ipv6 {
        let sum: u32 = request.as_chunks::<2>().0.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum();
        let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap_or_default();
        request[2..4].copy_from_slice(&sum.to_be_bytes());
    }
    // SAFETY: buffers and lengths are those of arrays that live through the call.
    let sent = unsafe {
        libc::sendto(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0, to.as_ptr().cast(), length)
    };
    check_size(sent, "send the first packet")?;
    let started = Instant::now();
    while started.elapsed() < PATIENCE {
        let mut reply = [0u8; 256];
        // SAFETY: as above.
        let got = unsafe { libc::recv(socket.as_raw_fd(), reply.as_mut_ptr().cast(), reply.len(), 0) };
        check_size(got, "the first packet is not answered")?;
        let start = if is_ipv6 { 0 } else { usize::from(reply[0] & 15) * 4 };
        let kind = if is_ipv6 { 129 } else { 0 };
        if reply[start] == kind && reply[start + 4..start + 8] == request[4..8] {
            return Ok(());
        }
    }
    Err(Failure::new("the first packet is not answered"))
}
