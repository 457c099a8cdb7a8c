//! The program that the kernel runs wherever it drops a packet (bpf(2)): it looks whether the packet is of a
//! probe and in one of the namespaces that are watched, and if so hands on the reason and the packet's first bytes.
//!
//! It is put together from instructions (RFC 9669), as a compiler for them is nothing that hop could ask for.
//! Where the fields of the kernel's structures are, the running kernel says.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::btf::Btf;
use crate::signature::Signature;

/// Where the program finds things in the kernel's structures, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Layout {
    /// Of a packet (`sk_buff`): its interface, its socket, its route.
    interface: usize,
    socket: usize,
    route: usize,
    /// Where its memory begins, and where in it the IP header does.
    memory: usize,
    network_header: usize,
    /// The namespace of an interface and of a socket; the interface of a route.
    namespace_of_interface: usize,
    namespace_of_socket: usize,
    interface_of_route: usize,
    /// The number of a namespace.
    number: usize,
}

impl Layout {
    /// The structures that have to be known.
    pub(super) const STRUCTURES: [&'static str; 5] = ["sk_buff", "net_device", "sock", "dst_entry", "net"];

    /// `None`: this kernel has something else in their place.
    pub(super) fn of(btf: &Btf<'_>) -> Option<Self> {
        Some(Layout {
            interface: btf.offset("sk_buff", &["dev"])?,
            socket: btf.offset("sk_buff", &["sk"])?,
            route: btf.offset("sk_buff", &["_skb_refdst"])?,
            memory: btf.offset("sk_buff", &["head"])?,
            network_header: btf.offset("sk_buff", &["network_header"])?,
            namespace_of_interface: btf.offset("net_device", &["nd_net", "net"])?,
            namespace_of_socket: btf.offset("sock", &["__sk_common", "skc_net", "net"])?,
            interface_of_route: btf.offset("dst_entry", &["dev"])?,
            number: btf.offset("net", &["ns", "inum"])?,
        })
    }
}

/// As much of a packet as is handed on, from its IP header: an ICMP error has two headers before the mark.
pub(super) const PACKET_BYTES: usize = 128;
/// What is handed on: the number of the namespace and that of the reason, and the packet.
pub(super) const RECORD_BYTES: usize = 8 + PACKET_BYTES;

/// An instruction: operation, registers, offset, constant.
pub(super) type Instruction = [u8; 8];

// Operations (linux/bpf.h and linux/bpf_common.h), each with the class and the size that it is used with.
const LOAD_8: u8 = 0x79;
const LOAD_4: u8 = 0x61;
const LOAD_2: u8 = 0x69;
const LOAD_1: u8 = 0x71;
const LOAD_MAP: u8 = 0x18;
const STORE_4: u8 = 0x63;
const SET: u8 = 0xb7;
const COPY: u8 = 0xbf;
const ADD: u8 = 0x07;
const ADD_REGISTER: u8 = 0x0f;
const AND: u8 = 0x57;
const SHIFT_RIGHT: u8 = 0x77;
const JUMP: u8 = 0x05;
const JUMP_IF_EQUAL: u8 = 0x15;
const JUMP_IF_UNEQUAL: u8 = 0x55;
/// Compares 32 bits, so that a constant is not extended by its sign.
const JUMP_IF_UNEQUAL_32: u8 = 0x56;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;

/// `bpf_map_lookup_elem`, `bpf_probe_read_kernel` and `bpf_ringbuf_output`.
const LOOK_UP: i32 = 1;
const READ_KERNEL: i32 = 113;
const HAND_ON: i32 = 130;

/// The registers that survive a call: what is dropped, the reason, what is being looked at, and where in its memory
/// the IP header is.
const PACKET: u8 = 6;
const REASON: u8 = 7;
const AT: u8 = 8;
const HEADER: u8 = 9;
/// The end of the stack, from where it is counted downwards.
const STACK: u8 = 10;
/// On the stack: a value that was read, and what is handed on.
const VALUE: i16 = -8;
const RECORD: i16 = -160;
const RECORD_REASON: i16 = RECORD + 4;
const RECORD_PACKET: i16 = RECORD + 8;

/// The program for packets of these signatures. `watched`: a map whose keys are the numbers of namespaces;
/// `ring`: a ring buffer.
pub(super) fn program(
    layout: &Layout,
    signatures: &[Signature],
    watched: BorrowedFd<'_>,
    ring: BorrowedFd<'_>,
) -> Vec<Instruction> {
    let mut code = Assembler::default();
    // The arguments of the tracepoint, of 64 bits each: packet, place in the kernel, reason.
    code.push(LOAD_8, PACKET, 1, 0, 0);
    code.push(LOAD_8, REASON, 1, 16, 0);

    // Its namespace: of the interface at which it is; else of its socket; else of its route.
    let mut found = Vec::new();
    code.follow(PACKET, layout.interface);
    let no_interface = code.jump(JUMP_IF_EQUAL, AT, 0);
    code.follow(AT, layout.namespace_of_interface);
    found.push(code.jump(JUMP, 0, 0));
    code.land([no_interface]);
    code.follow(PACKET, layout.socket);
    let no_socket = code.jump(JUMP_IF_EQUAL, AT, 0);
    code.follow(AT, layout.namespace_of_socket);
    found.push(code.jump(JUMP, 0, 0));
    code.land([no_socket]);
    code.follow(PACKET, layout.route);
    // The lowest bit says who frees it.
    code.push(AND, AT, 0, 0, !1);
    code.follow(AT, layout.interface_of_route);
    code.follow(AT, layout.namespace_of_interface);
    code.land(found);

    // What cannot be read is 0, which no namespace is.
    code.read(RECORD, 4, AT, layout.number);
    code.load_map(1, watched);
    code.push(COPY, 2, STACK, 0, 0);
    code.push(ADD, 2, 0, 0, RECORD.into());
    code.push(CALL, 0, 0, 0, LOOK_UP);
    let mut out = vec![code.jump(JUMP_IF_EQUAL, 0, 0)];

    // Its bytes, from the IP header on.
    code.read(VALUE, 2, PACKET, layout.network_header);
    code.push(LOAD_2, HEADER, STACK, VALUE, 0);
    code.follow(PACKET, layout.memory);
    code.push(ADD_REGISTER, AT, HEADER, 0, 0);
    code.read(RECORD_PACKET, PACKET_BYTES, AT, 0);

    // Is it one of the probe's?
    let mut known = Vec::new();
    for signature in signatures {
        let other = code.compare(signature);
        known.push(code.jump(JUMP, 0, 0));
        code.land(other);
    }
    out.push(code.jump(JUMP, 0, 0));
    code.land(known);
    code.push(STORE_4, STACK, REASON, RECORD_REASON, 0);
    code.load_map(1, ring);
    code.push(COPY, 2, STACK, 0, 0);
    code.push(ADD, 2, 0, 0, RECORD.into());
    code.push(SET, 3, 0, 0, fits(RECORD_BYTES));
    code.push(SET, 4, 0, 0, 0);
    code.push(CALL, 0, 0, 0, HAND_ON);

    code.land(out);
    code.push(SET, 0, 0, 0, 0);
    code.push(EXIT, 0, 0, 0, 0);
    code.0
}

/// Instructions, in which a jump is made before it is known where it leads.
#[derive(Default)]
struct Assembler(Vec<Instruction>);

/// A jump that leads nowhere yet, by its place.
struct Jump(usize);

impl Assembler {
    fn push(&mut self, operation: u8, to: u8, from: u8, offset: i16, constant: i32) {
        let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
        let ([o0, o1], [c0, c1, c2, c3]) = (offset.to_ne_bytes(), constant.to_ne_bytes());
        self.0.push([operation, registers, o0, o1, c0, c1, c2, c3]);
    }

    fn jump(&mut self, operation: u8, register: u8, constant: i32) -> Jump {
        self.push(operation, register, 0, 0, constant);
        Jump(self.0.len() - 1)
    }

    /// Lets jumps lead to what comes next.
    fn land(&mut self, jumps: impl IntoIterator<Item = Jump>) {
        for Jump(at) in jumps {
            let distance = i16::try_from(self.0.len() - at - 1).unwrap_or(i16::MAX);
            self.0[at][2..4].copy_from_slice(&distance.to_ne_bytes());
        }
    }

    /// Reads memory of the kernel to the stack; zeros, where there is none.
    fn read(&mut self, to: i16, bytes: usize, from: u8, offset: usize) {
        self.push(COPY, 1, STACK, 0, 0);
        self.push(ADD, 1, 0, 0, to.into());
        self.push(SET, 2, 0, 0, fits(bytes));
        self.push(COPY, 3, from, 0, 0);
        self.push(ADD, 3, 0, 0, fits(offset));
        self.push(CALL, 0, 0, 0, READ_KERNEL);
    }

    /// Reads an address, to look at what is there.
    fn follow(&mut self, from: u8, offset: usize) {
        self.read(VALUE, 8, from, offset);
        self.push(LOAD_8, AT, STACK, VALUE, 0);
    }

    /// It takes the place of two.
    fn load_map(&mut self, to: u8, map: BorrowedFd<'_>) {
        const A_DESCRIPTOR: u8 = 1;
        self.push(LOAD_MAP, to, A_DESCRIPTOR, 0, map.as_raw_fd());
        self.push(0, 0, 0, 0, 0);
    }

    /// Compares the packet with a signature; returns the jumps that are made where it is another.
    fn compare(&mut self, signature: &Signature) -> Vec<Jump> {
        let mut other = Vec::new();
        let (version, protocol_at, header) = if signature.is_ipv6 { (6, 6, 40) } else { (4, 9, 20) };
        self.push(LOAD_1, 1, STACK, RECORD_PACKET, 0);
        self.push(SHIFT_RIGHT, 1, 0, 0, 4);
        other.push(self.jump(JUMP_IF_UNEQUAL, 1, version));
        self.push(LOAD_1, 1, STACK, RECORD_PACKET + protocol_at, 0);
        other.push(self.jump(JUMP_IF_UNEQUAL, 1, signature.protocol.into()));
        for (at, bytes) in &signature.bytes {
            let mut at = RECORD_PACKET + header + i16::try_from(*at).unwrap_or(i16::MAX);
            // The kernel reads its stack at multiples of what is read.
            for word in bytes.chunks(4) {
                let (operation, value) = match *word {
                    [a, b, c, d] => (LOAD_4, i32::from_ne_bytes([a, b, c, d])),
                    [a, b, ..] => (LOAD_2, u16::from_ne_bytes([a, b]).into()),
                    [a] => (LOAD_1, a.into()),
                    [] => continue,
                };
                self.push(operation, 1, STACK, at, 0);
                other.push(self.jump(JUMP_IF_UNEQUAL_32, 1, value));
                at += 4;
            }
        }
        other
    }
}

/// Offsets and sizes are small.
fn fits(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
