//! A topology as it was written: every value as text, with its place. It may be nonsense.

use hopyard_net::Family;

use crate::Span;

/// A value and where it stands in the text, where it stands anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Its place.
    pub span: Option<Span>,
}

impl<T> Spanned<T> {
    /// A value with its place.
    pub fn at(value: T, span: Span) -> Self {
        Spanned { value, span: Some(span) }
    }

    /// A value from nowhere: a builder, a generator.
    pub fn nowhere(value: T) -> Self {
        Spanned { value, span: None }
    }
}

impl<T> From<T> for Spanned<T> {
    fn from(value: T) -> Self {
        Spanned::nowhere(value)
    }
}

impl From<&str> for Spanned<String> {
    fn from(value: &str) -> Self {
        Spanned::nowhere(value.to_owned())
    }
}

/// A whole topology, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabDoc {
    /// The lab's name.
    pub name: Option<Spanned<String>>,
    /// `auto` or `none`; absent: `auto`.
    pub routing: Option<Spanned<String>>,
    /// `full`, `compact` or `auto`; absent: `auto`.
    pub multipath: Option<Spanned<String>>,
    /// `static`, `dynamic` or `auto`; absent: `auto`.
    pub neighbours: Option<Spanned<String>>,
    /// Where addresses come from.
    pub addressing: AddressingDoc,
    /// Nodes in the order written.
    pub nodes: Vec<NodeDoc>,
    /// Does a link to an unknown name make a node of that name? So where no node was declared at
    /// all; otherwise an unknown name is a mistake.
    pub implicit_nodes: bool,
    /// Switches in the order written.
    pub switches: Vec<SwitchDoc>,
    /// Links in the order written.
    pub links: Vec<LinkDoc>,
    /// What shall be so, in the words of the file: `web -> db:5432/tcp`.
    pub expect: Vec<Spanned<String>>,
    /// Was it written line by line by a person? Then what the plan chooses must not move when
    /// a line is added; where a program made the whole, addresses may be laid out for the whole.
    pub hand_written: bool,
}

/// Where addresses come from, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressingDoc {
    /// A prefix, or `none`: no IPv4 at all.
    pub ipv4: Option<Spanned<String>>,
    /// A prefix, or `none`: no IPv6 at all.
    pub ipv6: Option<Spanned<String>>,
    /// `stable`, `compact` or `auto`; absent: `auto`.
    pub mode: Option<Spanned<String>>,
}

impl AddressingDoc {
    /// The value for a family.
    pub fn family(&self, family: Family) -> Option<&Spanned<String>> {
        match family {
            Family::Ipv4 => self.ipv4.as_ref(),
            Family::Ipv6 => self.ipv6.as_ref(),
        }
    }
}

/// A node, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeDoc {
    /// Its name.
    pub name: Spanned<String>,
    /// `host` or `router`.
    pub role: Option<Spanned<String>>,
    /// Does it forward?
    pub forward: Option<Spanned<bool>>,
    /// `auto`, `none`, or addresses for `lo`.
    pub loopback: Vec<Spanned<String>>,
    /// Interfaces of the machine that it is lent.
    pub interfaces: Vec<Spanned<String>>,
    /// Further addresses: interface, address with prefix length.
    pub addresses: Vec<(Spanned<String>, Spanned<String>)>,
    /// Sysctls: name, value.
    pub sysctls: Vec<(Spanned<String>, Spanned<String>)>,
    /// Routes in the words of ip-route(8): `10.0.2.0/24 via 10.0.1.1`, `default via near dev eth0`.
    pub routes: Vec<Spanned<String>>,
    /// What it translates.
    pub nat: NatDoc,
    /// Has it a way out of the lab?
    pub uplink: Option<Spanned<bool>>,
}

/// What a node translates, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatDoc {
    /// What leaves by an interface gets the address of that.
    pub masquerade: Vec<NatSourceDoc>,
    /// What leaves by an interface gets another source.
    pub snat: Vec<NatSourceDoc>,
    /// What goes to an address: address, and node or address that it goes to instead.
    pub dnat: Vec<(Spanned<String>, Spanned<String>)>,
    /// An address that stands for another node, both ways: address, and node or address.
    pub floating: Vec<(Spanned<String>, Spanned<String>)>,
    /// A port: `[ADDRESS:]PORT[/tcp|/udp]`, and `NODE|ADDRESS[:PORT]`.
    pub publish: Vec<(Spanned<String>, Spanned<String>)>,
    /// The whole.
    pub span: Option<Span>,
}

/// A source that is replaced, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NatSourceDoc {
    /// The interface by which it leaves.
    pub out: Option<Spanned<String>>,
    /// From where; absent: whatever the source.
    pub from: Option<Spanned<String>>,
    /// The new source.
    pub to: Option<Spanned<String>>,
    /// The whole entry.
    pub span: Option<Span>,
}

/// What a link or a switch says of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FamilyDoc {
    /// `none`, or one prefix from which addresses are chosen.
    Prefix(Spanned<String>),
    /// The address of each end, in the order of the ends.
    Each(Vec<Spanned<String>>),
}

/// One end of a link, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndDoc {
    /// The node or switch.
    pub node: Spanned<String>,
    /// The interface; absent: chosen.
    pub iface: Option<Spanned<String>>,
}

impl EndDoc {
    /// An end of which nothing is written.
    pub const fn unnamed() -> Self {
        EndDoc { node: Spanned { value: String::new(), span: None }, iface: None }
    }
}

/// A link, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LinkDoc {
    /// The two ends.
    pub ends: [EndDoc; 2],
    /// IPv4 of the link.
    pub ipv4: Option<FamilyDoc>,
    /// IPv6 of the link.
    pub ipv6: Option<FamilyDoc>,
    /// The Ethernet address of each end.
    pub mac: Vec<Spanned<String>>,
    /// The MTU of both ends, in bytes.
    pub mtu: Option<Spanned<u64>>,
    /// The cost of using it, for automatic routing; absent: 1.
    pub cost: Option<Spanned<u64>>,
    /// One-way delay in microseconds, as an importer found it.
    pub delay_us: Option<u64>,
    /// The whole entry.
    pub span: Option<Span>,
}

/// A switch, as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SwitchDoc {
    /// Its name.
    pub name: Spanned<String>,
    /// Its members: nodes, each with or without an interface name. Links can name more.
    pub members: Vec<EndDoc>,
    /// IPv4 of the segment: `none` or a prefix.
    pub ipv4: Option<Spanned<String>>,
    /// IPv6 of the segment: `none` or a prefix.
    pub ipv6: Option<Spanned<String>>,
    /// The MTU of the segment, in bytes.
    pub mtu: Option<Spanned<u64>>,
    /// The cost of entering it, for automatic routing; absent: 1.
    pub cost: Option<Spanned<u64>>,
}

impl Default for Spanned<String> {
    fn default() -> Self {
        Spanned::nowhere(String::new())
    }
}
