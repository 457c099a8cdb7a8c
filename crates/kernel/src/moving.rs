//! An interface on its way to another namespace, and what the kernel takes from it.
//!
//! It keeps its name, its Ethernet address, its MTU and its second names. It goes down, and loses addresses,
//! routes, permanent neighbours and its place in a bridge. The policy rules that name it stay where they are, without
//! an effect. All but the place in a bridge is given to it again, as the
//! kernel itself has told it: the messages of its tables are kept and sent, as `ip route save` does.
//! A wireless one moves with its radio, and so do all others of that.

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use hopyard_net::{Family, IfName, MacAddr};
use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteProtocol};
use netlink_packet_route::rule::{RuleAttribute, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::decode::{self, FoundLink};
use crate::error::Refusal;
use crate::inside::{cookie_of, go_home};
use crate::links::IfIndex;
use crate::netlink::{Answers, Batch, Inbox, RtSocket};
use crate::wireless::{Radio, Wireless};
use crate::world::read_links;
use crate::{Errno, KernelError, Realm, encode, namespace, settle};

/// A namespace, open for what concerns its interfaces.
pub struct Space {
    socket: RtSocket,
    inbox: Inbox,
}

/// What an interface has, and loses when it moves.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Settings {
    up: bool,
    addresses: Vec<AddressMessage>,
    routes: Vec<RouteMessage>,
    neighbours: Vec<(IpAddr, MacAddr)>,
    /// Those that name it and no other one.
    rules: Vec<RuleMessage>,
    lost: Vec<Lost>,
}

/// Something that an interface had and has no more.
#[derive(Clone, Debug, PartialEq)]
pub struct Lost {
    /// What.
    pub what: String,
    /// Why it could not be had again; `None`: it is not a thing of the interface alone.
    pub why: Option<KernelError>,
}

impl std::fmt::Debug for Space {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Space").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Space {
    /// Opens a namespace.
    ///
    /// # Errors
    /// It cannot be entered.
    pub fn open(of: BorrowedFd<'_>) -> Result<Self, KernelError> {
        let failed = |error: io::Error| KernelError::new("enter the namespace", error);
        let open = || {
            let socket = namespace::enter(of).and_then(|()| RtSocket::open());
            go_home();
            socket
        };
        let socket = Realm::host().run(open).map_err(failed)?.map_err(failed)?;
        Ok(Space { socket, inbox: Inbox::default() })
    }

    /// See [`Inside::cookie`](crate::Inside::cookie).
    pub fn cookie(&self) -> Option<u64> {
        cookie_of(&self.socket)
    }

    /// The names of its interfaces.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn interfaces(&mut self) -> Result<Vec<IfName>, KernelError> {
        Ok(self.links()?.iter().map(|link| link.dev).collect())
    }

    /// The number of an interface, which it keeps as long as it is here, whatever it is called.
    ///
    /// # Errors
    /// `ENODEV`: there is no such interface.
    pub fn number(&mut self, dev: IfName) -> Result<u32, KernelError> {
        Ok(find(&self.links()?, dev)?.index)
    }

    /// What the interface of a number is called now, if it is here.
    ///
    /// # Errors
    /// The interfaces cannot be read.
    pub fn named(&mut self, number: u32) -> Result<Option<IfName>, KernelError> {
        Ok(self.links()?.iter().find(|link| link.index == number).map(|link| link.dev))
    }

    /// Gives an interface another name. Before Linux 6.2 it must be down.
    ///
    /// # Errors
    /// `EEXIST`: there is one of that name.
    pub fn rename(&mut self, dev: IfName, to: IfName) -> Result<(), KernelError> {
        let links = self.links()?;
        let doing = || format!("call the interface {dev} {to}");
        if links.iter().any(|link| link.dev == to) {
            return Err(KernelError::new(doing(), Errno::EXIST));
        }
        let (request, flags) = encode::rename_link(find(&links, dev)?.index, to);
        self.carry_out(request, flags).map_err(|refusal| refusal.while_doing(doing()))
    }

    /// What an interface has that it would lose.
    ///
    /// # Errors
    /// `ENODEV`: there is no such interface.
    pub fn settings(&mut self, dev: IfName) -> Result<Settings, KernelError> {
        let links = self.links()?;
        let link = find(&links, dev)?;
        let mut settings = Settings { up: link.up, ..Settings::default() };
        if let Some(bridge) = link.master {
            let name = links.iter().find(|other| other.index == bridge).map_or("a bridge", |other| other.dev.as_str());
            settings.lost.push(Lost { what: format!("its place in {name}"), why: None });
        }
        let reading = |refusal: Refusal| refusal.while_doing(format!("read what {dev} has"));
        for message in self.socket.ask(encode::get_addresses(None), NLM_F_DUMP, &mut self.inbox).map_err(reading)? {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && message.header.index == link.index
                && !is_automatic(&message, link)
            {
                settings.addresses.push(message);
            }
        }
        for family in Family::BOTH {
            let messages = self.socket.ask(encode::get_routes(family), NLM_F_DUMP, &mut self.inbox).map_err(reading)?;
            for message in messages {
                let RouteNetlinkMessage::NewRoute(message) = message else { continue };
                if is_derived(&message) {
                    continue;
                }
                match leads_over(&message, link.index) {
                    Way::Elsewhere => {}
                    Way::Here => settings.routes.push(message),
                    Way::AmongOthers => settings.lost.push(Lost {
                        what: format!("its part in {}, which has other ways", route_text(&message)),
                        why: None,
                    }),
                }
            }
        }
        for message in self.socket.ask(encode::get_neighbours(), NLM_F_DUMP, &mut self.inbox).map_err(reading)? {
            if let Some((index, address, mac)) = decode::neighbour(&message)
                && index == link.index
            {
                settings.neighbours.push((address, mac));
            }
        }
        for rule in self.rules_naming(dev)? {
            match rule {
                Naming::Alone(rule) => settings.rules.push(rule),
                Naming::AndOther(rule, other) => settings.lost.push(Lost {
                    what: format!("its part in {}, which names {other} too", rule_text(&rule)),
                    why: None,
                }),
            }
        }
        Ok(settings)
    }

    /// The policy rules that name an interface.
    fn rules_naming(&mut self, dev: IfName) -> Result<Vec<Naming>, KernelError> {
        let reading = |refusal: Refusal| refusal.while_doing(format!("read the rules that name {dev}"));
        let mut found = Vec::new();
        for family in Family::BOTH {
            let messages = match self.socket.ask(encode::get_rules(family), NLM_F_DUMP, &mut self.inbox) {
                // A kernel without policy rules has the tables alone.
                Err(refusal) if refusal.errno.is_unsupported() => continue,
                messages => messages.map_err(reading)?,
            };
            found.extend(messages.into_iter().filter_map(|message| match message {
                RouteNetlinkMessage::NewRule(rule) => naming(rule, dev),
                _ => None,
            }));
        }
        Ok(found)
    }

    /// The interfaces that move when this one does: itself, and if it is wireless all of its radio.
    ///
    /// # Errors
    /// `ENODEV`: there is no such interface.
    pub fn companions(&mut self, dev: IfName) -> Result<Vec<IfName>, KernelError> {
        let links = self.links()?;
        let link = find(&links, dev)?;
        let asking = |refusal: Refusal| refusal.while_doing(format!("ask for the radio of {dev}"));
        let radio = radio_of(&self.socket, link).map_err(asking)?;
        Ok(radio.map_or_else(|| vec![dev], |(_, radio)| radio.devs))
    }

    /// Moves an interface and its [companions](Self::companions) to another namespace, where they are down and have
    /// nothing. The rules that name none but one of them go.
    ///
    /// # Errors
    /// `EEXIST`: there is one of that name. `EINVAL`: it is of a kind that cannot leave, as `lo` or a bridge.
    /// `EOPNOTSUPP`: the driver of its radio cannot.
    pub fn send(&mut self, dev: IfName, to: BorrowedFd<'_>) -> Result<(), KernelError> {
        let links = self.links()?;
        let link = find(&links, dev)?;
        let mut rules = Vec::new();
        for dev in self.companions(dev)? {
            rules.extend(self.rules_naming(dev)?);
        }
        send(&self.socket, &mut self.inbox, link, to).map_err(|refusal| {
            let doing = refusal.doing.clone().unwrap_or_else(|| format!("move the interface {dev}"));
            refusal.while_doing(doing)
        })?;
        for rule in rules {
            if let Naming::Alone(rule) = rule {
                let (request, flags) = encode::del_rule(&rule);
                // Somebody else may have done it. One that stays names nothing.
                self.carry_out(request, flags).ok();
            }
        }
        Ok(())
    }

    /// Gives an interface what it had elsewhere; returns what it cannot have.
    ///
    /// # Errors
    /// `ENODEV`: there is no such interface.
    pub fn restore(&mut self, dev: IfName, settings: &Settings) -> Result<Vec<Lost>, KernelError> {
        let links = self.links()?;
        let index = find(&links, dev)?.index;
        let mut lost = settings.lost.clone();
        let mut note = |what: String, refusal: Refusal| {
            let error = refusal.while_doing(format!("give {dev} {what}"));
            lost.push(Lost { what, why: Some(error) });
        };
        // First, for without it there are no routes.
        if settings.up {
            let (request, flags) = encode::set_up(index, true);
            if let Err(refusal) = self.carry_out(request, flags) {
                note("that it is up".to_owned(), refusal);
            }
        }
        for message in &settings.addresses {
            let (request, flags) = encode::add_again(message, index);
            if let Err(refusal) = self.carry_out(request, flags) {
                note(address_text(message), refusal);
            }
        }
        // A way may lead over another one, whichever comes first in the table.
        let mut rest: Vec<&RouteMessage> = settings.routes.iter().collect();
        loop {
            let before = rest.len();
            let mut refused = Vec::new();
            for message in rest {
                let (request, flags) = encode::set_again(message, index);
                if let Err(refusal) = self.carry_out(request, flags) {
                    refused.push((message, refusal));
                }
            }
            if refused.is_empty() || refused.len() == before {
                for (message, refusal) in refused {
                    note(route_text(message), refusal);
                }
                break;
            }
            rest = refused.into_iter().map(|(message, _)| message).collect();
        }
        for &(address, mac) in &settings.neighbours {
            let (request, flags) = encode::set_neigh(index, address, mac);
            if let Err(refusal) = self.carry_out(request, flags) {
                note(format!("the neighbour {address}"), refusal);
            }
        }
        for rule in &settings.rules {
            let (request, flags) = encode::add_rule_again(rule);
            if let Err(refusal) = self.carry_out(request, flags) {
                note(rule_text(rule), refusal);
            }
        }
        if settings.up {
            // One without a carrier has nothing to be activated for.
            settle::activate(&self.socket, dev).ok();
        }
        Ok(lost)
    }

    fn links(&mut self) -> Result<Vec<FoundLink>, KernelError> {
        read_links(&self.socket, &mut self.inbox).map_err(|refusal| refusal.while_doing("read the interfaces"))
    }

    /// What is there already is as good.
    fn carry_out(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.push(1, flags, request);
        let mut refused = None;
        self.socket.submit(&mut batch, &mut self.inbox, &mut |_, refusal| refused = Some(refusal))?;
        match refused {
            Some(refusal) if refusal.errno != Errno::EXIST => Err(refusal),
            _ => Ok(()),
        }
    }
}

impl Settings {
    /// Has it nothing, and is down?
    pub fn is_bare(&self) -> bool {
        !self.up && self.addresses.is_empty()
    }

    /// For a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut batch = Batch::default();
        let addresses = self.addresses.iter().cloned().map(RouteNetlinkMessage::NewAddress);
        let routes = self.routes.iter().cloned().map(RouteNetlinkMessage::NewRoute);
        let neighbours = self.neighbours.iter().map(|&(address, mac)| encode::set_neigh(0, address, mac).0);
        let rules = self.rules.iter().cloned().map(RouteNetlinkMessage::NewRule);
        for message in addresses.chain(routes).chain(neighbours).chain(rules) {
            batch.push(0, 0, message);
        }
        [&[u8::from(self.up)], batch.bytes()].concat()
    }

    /// From a file; what is not understood is left out.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let Some((up, rest)) = bytes.split_first() else { return Settings::default() };
        let mut settings = Settings { up: *up != 0, ..Settings::default() };
        for answer in Answers(rest) {
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer.bytes()).map(|message| message.payload) {
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message))) => {
                    settings.addresses.push(message);
                }
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message))) => {
                    settings.routes.push(message);
                }
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRule(message))) => settings.rules.push(message),
                Ok(NetlinkPayload::InnerMessage(other)) => {
                    settings.neighbours.extend(decode::neighbour(&other).map(|(_, address, mac)| (address, mac)));
                }
                _ => {}
            }
        }
        settings
    }
}

/// Moves an interface, or its radio.
pub(crate) fn send(from: &RtSocket, inbox: &mut Inbox, link: &FoundLink, to: BorrowedFd<'_>) -> Result<(), Refusal> {
    if let Some((mut wireless, radio)) = radio_of(from, link)? {
        // The kernel would give it another name.
        let taken = Space::open(to).and_then(|mut there| there.interfaces());
        let taken = taken.map_err(|error| Refusal { doing: Some(error.doing), ..error.errno.into() })?;
        if let Some(dev) = radio.devs.iter().find(|dev| taken.contains(dev)) {
            return Err(Refusal::saying(Errno::EXIST, format!("there is another interface {dev}")));
        }
        let doing = format!("move the radio of {}, phy#{},", link.dev, radio.number);
        return wireless.send(&radio, to).map_err(|refusal| Refusal { doing: Some(doing), ..refusal });
    }
    let mut batch = Batch::default();
    let (request, flags) = encode::move_link(link.index, to);
    batch.push(1, flags, request);
    let mut refused = None;
    from.submit(&mut batch, inbox, &mut |_, refusal| refused = Some(refusal))?;
    refused.map_or(Ok(()), Err)
}

/// The radio of an interface, where it has one, and who moves it.
pub(crate) fn radio_of(beside: &RtSocket, link: &FoundLink) -> Result<Option<(Wireless, Radio)>, Refusal> {
    if !link.is_device() {
        return Ok(None);
    }
    let Some(mut wireless) = Wireless::beside(beside)? else { return Ok(None) };
    Ok(wireless.radio_of(link.index)?.map(|radio| (wireless, radio)))
}

fn find(links: &[FoundLink], dev: IfName) -> Result<&FoundLink, KernelError> {
    let missing = || KernelError::new(format!("find the interface {dev}"), Errno::NODEV);
    links.iter().find(|link| link.dev == dev).ok_or_else(missing)
}

/// Is it one that the interface is given without being asked, by the kernel or by a router?
fn is_automatic(message: &AddressMessage, link: &FoundLink) -> bool {
    let has = |wanted: AddressFlags| {
        message.attributes.iter().any(|part| matches!(part, AddressAttribute::Flags(flags) if flags.contains(wanted)))
    };
    let from_kernel = message.attributes.iter().any(|part| {
        use AddressProtocol::{LinkLocal, Loopback, RouterAnnouncement};
        matches!(part, AddressAttribute::Protocol(Loopback | LinkLocal | RouterAnnouncement))
    });
    // Of IPv6, what is called secondary is temporary (RFC 8981).
    let temporary = message.header.family == AddressFamily::Inet6 && has(AddressFlags::Secondary);
    // Kernels before 5.18 leave no mark.
    let own_accord = decode::address(&RouteNetlinkMessage::NewAddress(message.clone()))
        .is_some_and(|found| decode::is_own_accord(found.addr, false, link.mac));
    from_kernel || temporary || own_accord
}

/// Does it come with an address, or from a router?
fn is_derived(message: &RouteMessage) -> bool {
    matches!(message.header.protocol, RouteProtocol::Kernel | RouteProtocol::IcmpRedirect | RouteProtocol::Ra)
        || message.header.flags.contains(RouteFlags::Cloned)
}

enum Way {
    Elsewhere,
    Here,
    AmongOthers,
}

fn leads_over(message: &RouteMessage, index: IfIndex) -> Way {
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(oif) if *oif == index => return Way::Here,
            RouteAttribute::MultiPath(hops) if hops.iter().all(|hop| hop.interface_index == index) => return Way::Here,
            RouteAttribute::MultiPath(hops) if hops.iter().any(|hop| hop.interface_index == index) => {
                return Way::AmongOthers;
            }
            _ => {}
        }
    }
    Way::Elsewhere
}

/// A policy rule that names an interface.
enum Naming {
    Alone(RuleMessage),
    /// Packets come in by one of them and leave by the other.
    AndOther(RuleMessage, String),
}

fn naming(rule: RuleMessage, dev: IfName) -> Option<Naming> {
    let named = rule.attributes.iter().filter_map(|attribute| match attribute {
        RuleAttribute::Iifname(name) | RuleAttribute::Oifname(name) => Some(name),
        _ => None,
    });
    let (own, others): (Vec<&String>, Vec<&String>) = named.partition(|name| *name == dev.as_str());
    match (own.is_empty(), others.first().map(|other| (*other).clone())) {
        (true, _) => None,
        (false, None) => Some(Naming::Alone(rule)),
        (false, Some(other)) => Some(Naming::AndOther(rule, other)),
    }
}

fn rule_text(rule: &RuleMessage) -> String {
    let priority = rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::Priority(priority) => Some(*priority),
        _ => None,
    });
    format!("the rule {}", priority.unwrap_or(0))
}

fn address_text(message: &AddressMessage) -> String {
    let found = RouteNetlinkMessage::NewAddress(message.clone());
    decode::address(&found).map_or_else(|| "an address".to_owned(), |found| format!("the address {}", found.addr))
}

fn route_text(message: &RouteMessage) -> String {
    let length = message.header.destination_prefix_length;
    let destination = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(format!("the route to {address}/{length}")),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(format!("the route to {address}/{length}")),
        _ => None,
    });
    destination.unwrap_or_else(|| "the default route".to_owned())
}
