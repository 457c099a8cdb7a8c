//! An interface on its way to another namespace, and what the kernel takes from it.
//!
//! It keeps its name, its Ethernet address, its MTU and its second names. It goes down, and loses addresses,
//! routes, permanent neighbours, its sysctls, its queueing disciplines and its place in a bridge. A route of IPv4 that has other
//! ways too the kernel takes away whole. The policy rules that name it stay where they are, without
//! an effect. What is its own is given to it again, as the
//! kernel itself has told it: the messages of its tables are kept and sent, as `ip route save` does. What it shares with others,
//! a bridge or a route, it is given where it has come from.
//! A wireless one moves with its radio, and so do all others of that.

mod conf;
mod queueing;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use hopyard_net::{Family, IfName, MacAddr};
use netlink_packet_core::{NLM_F_DUMP, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol};
use netlink_packet_route::neighbour::{NeighbourFlags, NeighbourMessage};
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

use self::conf::Setting;

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
    /// For whom the namespace answers by it.
    proxied: Vec<NeighbourMessage>,
    token: Option<Ipv6Addr>,
    sysctls: Vec<Setting>,
    /// The kinds of its queueing disciplines. They are not given to it: they may be trees, with filters.
    queueing: Vec<String>,
    /// Its number.
    number: IfIndex,
    /// The bridge, or the like, that it is a part of.
    master: Option<String>,
    /// Routes that have other ways too.
    shared: Vec<RouteMessage>,
    lost: Vec<Lost>,
}

/// Where an interface is given what it had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Where it had it.
    Origin,
    /// Elsewhere.
    Elsewhere,
    /// In a node, whose sysctls are those of its lab.
    Node,
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

    /// Gives an interface another name. Before Linux 6.2 it is down for that moment.
    ///
    /// # Errors
    /// `EEXIST`: there is one of that name.
    pub fn rename(&mut self, dev: IfName, to: IfName) -> Result<(), KernelError> {
        let links = self.links()?;
        let doing = || format!("call the interface {dev} {to}");
        if links.iter().any(|link| link.dev == to) {
            return Err(KernelError::new(doing(), Errno::EXIST));
        }
        let index = find(&links, dev)?.index;
        let (request, flags) = encode::rename_link(index, to);
        match self.try_out(request, flags) {
            Err(refusal) if refusal.errno == Errno::BUSY => self.rename_down(index, dev, to),
            renamed => renamed.map_err(|refusal| refusal.while_doing(doing())),
        }
    }

    /// The same, of one that is up where only one that is down can have another name.
    fn rename_down(&mut self, index: IfIndex, dev: IfName, to: IfName) -> Result<(), KernelError> {
        let mut lost = vec![(dev, self.settings(dev)?.lost_by_going_down())];
        lost.extend(self.standing_on(index, None)?);
        let mut renamed = Ok(());
        for (request, flags) in [encode::set_up(index, false), encode::rename_link(index, to)] {
            renamed = renamed.and_then(|()| self.try_out(request, flags));
        }
        for (one, settings) in lost {
            let called = if one == dev && renamed.is_ok() { to } else { one };
            self.restore(called, &settings, Place::Origin)?;
        }
        renamed.map_err(|refusal| refusal.while_doing(format!("call the interface {dev} {to}")))
    }

    /// What an interface has that it would lose.
    ///
    /// # Errors
    /// `ENODEV`: there is no such interface.
    pub fn settings(&mut self, dev: IfName) -> Result<Settings, KernelError> {
        let links = self.links()?;
        let link = find(&links, dev)?;
        let mut settings = Settings { up: link.up, token: link.token, number: link.index, ..Settings::default() };
        if let Some(bridge) = link.master {
            let name = links.iter().find(|other| other.index == bridge).map(|other| other.dev.to_string());
            settings.master = Some(name.unwrap_or_else(|| "a bridge".to_owned()));
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
                    Way::AmongOthers => settings.shared.push(message),
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
        for message in self.socket.ask(encode::get_proxied(), NLM_F_DUMP, &mut self.inbox).map_err(reading)? {
            if let RouteNetlinkMessage::NewNeighbour(message) = message
                && message.header.ifindex == link.index
                && message.header.flags.contains(NeighbourFlags::Proxy)
            {
                settings.proxied.push(message);
            }
        }
        settings.queueing = queueing::read(&self.socket, &mut self.inbox, link.index).map_err(reading)?;
        settings.sysctls = conf::read(self.namespace()?.as_fd(), dev)?;
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

    /// The interfaces that stand on one that is here, or in another namespace, and are up, with what they have: they go
    /// down with it. The lower ones come first.
    ///
    /// # Errors
    /// The interfaces cannot be read.
    pub fn standing_on(
        &mut self,
        number: u32,
        elsewhere: Option<BorrowedFd<'_>>,
    ) -> Result<Vec<(IfName, Settings)>, KernelError> {
        let links = self.links()?;
        let namespace = match elsewhere {
            None => None,
            Some(namespace) => match self.number_of(namespace) {
                // Nothing that is here knows it.
                None => return Ok(Vec::new()),
                number => number,
            },
        };
        let standing = above(&links, number, namespace).into_iter().filter_map(|dev| match self.settings(dev) {
            // It has gone meanwhile.
            Err(error) if error.errno() == Errno::NODEV => None,
            settings => Some(settings.map(|settings| (dev, settings.lost_by_going_down()))),
        });
        standing.collect()
    }

    /// The number by which a namespace is known here.
    fn number_of(&mut self, namespace: BorrowedFd<'_>) -> Option<i32> {
        let answers = self.socket.ask(encode::get_nsid(namespace), 0, &mut self.inbox).ok()?;
        answers.iter().find_map(decode::nsid)
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

    /// Puts back the other ways of routes that the kernel has taken away whole, when one of their interfaces has left.
    pub fn mend(&mut self, settings: &Settings) {
        // A group of nexthop objects loses the one, and its routes go on by the others.
        let gone = |message: &&RouteMessage| {
            message.header.address_family == AddressFamily::Inet && nexthop_of(message).is_none()
        };
        for message in settings.shared.iter().filter(gone) {
            let (request, flags) = encode::set_again(message, 0, others(settings.number));
            // One of them may have gone meanwhile.
            self.carry_out(request, flags).ok();
        }
    }

    /// Gives an interface what it had elsewhere, or here before; returns what it cannot have.
    ///
    /// # Errors
    /// `ENODEV`: there is no such interface.
    pub fn restore(&mut self, dev: IfName, settings: &Settings, place: Place) -> Result<Vec<Lost>, KernelError> {
        let links = self.links()?;
        let index = find(&links, dev)?.index;
        let mut lost = settings.lost.clone();
        let mut note = |what: String, refusal: Refusal| {
            let error = refusal.while_doing(format!("give {dev} {what}"));
            lost.push(Lost { what, why: Some(error) });
        };
        // First, for some masters take only what is down.
        match &settings.master {
            Some(master) if place == Place::Origin => {
                let found = links.iter().find(|link| link.dev.as_str() == master).map(|link| link.index);
                let placed = found.ok_or_else(|| Refusal::from(Errno::NODEV)).and_then(|master| {
                    let (request, flags) = encode::set_master(index, Some(master));
                    self.carry_out(request, flags)
                });
                if let Err(refusal) = placed {
                    note(format!("its place in {master}"), refusal);
                }
            }
            _ => {}
        }
        // Among them is which addresses it takes by itself.
        if place != Place::Node {
            for (setting, errno) in conf::set(self.namespace()?.as_fd(), dev, &settings.sysctls)? {
                note(setting.text(dev), errno.into());
            }
        }
        // Without it there are no routes.
        if settings.up {
            let (request, flags) = encode::set_up(index, true);
            if let Err(refusal) = self.carry_out(request, flags) {
                note("that it is up".to_owned(), refusal);
            }
        }
        if let Some(token) = settings.token {
            let (request, flags) = encode::set_token(index, token);
            if let Err(refusal) = self.carry_out(request, flags) {
                note(format!("the token {token}"), refusal);
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
                if let Err(refusal) = self.set_route_again(message, index) {
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
        if place == Place::Origin {
            for message in settings.shared.iter().filter(|message| nexthop_of(message).is_none()) {
                if let Err(refusal) = self.join_route_again(message, settings.number, index) {
                    note(format!("its part in {}", route_text(message)), refusal);
                }
            }
        }
        for &(address, mac) in &settings.neighbours {
            let (request, flags) = encode::set_neigh(index, address, mac);
            if let Err(refusal) = self.carry_out(request, flags) {
                note(format!("the neighbour {address}"), refusal);
            }
        }
        for message in &settings.proxied {
            let (request, flags) = encode::add_proxied_again(message, index);
            if let Err(refusal) = self.carry_out(request, flags) {
                note("somebody for whom it answers (`ip neighbour show proxy`)".to_owned(), refusal);
            }
        }
        for rule in &settings.rules {
            let (request, flags) = encode::add_rule_again(rule);
            if let Err(refusal) = self.carry_out(request, flags) {
                note(rule_text(rule), refusal);
            }
        }
        let objects: BTreeSet<u32> = settings.routes.iter().filter_map(nexthop_of).collect();
        let groups: BTreeSet<u32> = settings.shared.iter().filter_map(nexthop_of).collect();
        if settings.up {
            // One without a carrier has nothing to be activated for.
            settle::activate(&self.socket, dev).ok();
        }
        if place == Place::Origin {
            let part = |number| Lost { what: format!("its part in the nexthop {number}"), why: None };
            lost.extend(groups.into_iter().map(part));
        } else {
            lost.extend(
                settings.master.iter().map(|master| Lost { what: format!("its place in {master}"), why: None }),
            );
            let shared = settings.shared.iter().map(|message| Lost {
                what: format!("its part in {}, which has other ways", route_text(message)),
                why: None,
            });
            lost.extend(shared);
        }
        let objects = objects.into_iter().map(|number| Lost {
            what: format!("the nexthop {number}, without which its routes go the same way"),
            why: None,
        });
        lost.extend(objects);
        let queueing =
            settings.queueing.iter().map(|kind| Lost { what: format!("its queueing discipline {kind}"), why: None });
        lost.extend(queueing);
        Ok(lost)
    }

    fn set_route_again(&mut self, message: &RouteMessage, index: IfIndex) -> Result<(), Refusal> {
        let (request, flags) = encode::set_again(message, index, |_| Some(index));
        match self.try_out(request, flags) {
            // It may be there already; of IPv6 it may also be that there is one over another interface.
            Err(refusal) if refusal.errno == Errno::EXIST && !self.has_route(message, index)? => Err(refusal),
            Err(refusal) if refusal.errno != Errno::EXIST => Err(refusal),
            _ => Ok(()),
        }
    }

    /// Is there a route to the same destination over an interface?
    fn has_route(&mut self, wanted: &RouteMessage, index: IfIndex) -> Result<bool, Refusal> {
        let family = if wanted.header.address_family == AddressFamily::Inet { Family::Ipv4 } else { Family::Ipv6 };
        let found = self.socket.ask(encode::get_routes(family), NLM_F_DUMP, &mut self.inbox)?;
        Ok(found.into_iter().any(|found| match found {
            RouteNetlinkMessage::NewRoute(found) => {
                key_of(&found) == key_of(wanted) && !matches!(leads_over(&found, index), Way::Elsewhere)
            }
            _ => false,
        }))
    }

    /// Gives an interface its part in a route that has other ways too, where it has had it.
    fn join_route_again(&mut self, message: &RouteMessage, old: IfIndex, index: IfIndex) -> Result<(), Refusal> {
        if message.header.address_family != AddressFamily::Inet {
            let own = |hop| (hop == old).then_some(index);
            let (request, flags) = encode::join_again(message, index, own);
            return self.carry_out(request, flags);
        }
        // In place of what `mend` has left of it. If that is not there, somebody knows better.
        let mended = encode::set_again(message, 0, others(old));
        if let Some((request, flags)) = encode::unset(mended) {
            self.try_out(request, flags)?;
        }
        let all = |hop| Some(if hop == old { index } else { hop });
        let (request, flags) = encode::set_again(message, index, all);
        self.carry_out(request, flags)
    }

    fn links(&mut self) -> Result<Vec<FoundLink>, KernelError> {
        read_links(&self.socket, &mut self.inbox).map_err(|refusal| refusal.while_doing("read the interfaces"))
    }

    fn namespace(&self) -> Result<OwnedFd, KernelError> {
        self.socket.namespace().map_err(|error| KernelError::new("find the namespace of a socket", error))
    }

    /// What is there already is as good.
    fn carry_out(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        match self.try_out(request, flags) {
            Err(refusal) if refusal.errno != Errno::EXIST => Err(refusal),
            _ => Ok(()),
        }
    }

    fn try_out(&mut self, request: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        let mut batch = Batch::default();
        batch.push(1, flags, request);
        let mut refused = None;
        self.socket.submit(&mut batch, &mut self.inbox, &mut |_, refusal| refused = Some(refusal))?;
        refused.map_or(Ok(()), Err)
    }
}

/// Those that stand on one that is here, or in the namespace of that number, and are up. The lower ones come first.
fn above(links: &[FoundLink], number: IfIndex, namespace: Option<i32>) -> Vec<IfName> {
    let mut below = vec![(number, namespace)];
    let mut standing: Vec<IfName> = Vec::new();
    while let Some(lower) = below.pop() {
        for link in links.iter().filter(|link| link.stands_on == Some(lower) && link.up) {
            // Of a kind that we do not know, two may say it of each other.
            if (link.index, None) != (number, namespace) && !standing.contains(&link.dev) {
                below.push((link.index, None));
                standing.push(link.dev);
            }
        }
    }
    standing
}

/// The next hops over other interfaces than this one.
fn others(than: IfIndex) -> impl Fn(IfIndex) -> Option<IfIndex> {
    move |hop| Some(hop).filter(|hop| *hop != than)
}

impl Settings {
    /// Has it nothing, and is down?
    pub fn is_bare(&self) -> bool {
        !self.up && self.addresses.is_empty()
    }

    /// What of it goes with an interface that goes down and stays where it is.
    fn lost_by_going_down(self) -> Self {
        Settings { lost: Vec::new(), queueing: Vec::new(), shared: Vec::new(), ..self }
    }

    /// What it shares with others where it has these, too.
    pub fn share(&mut self, origin: Settings) {
        (self.number, self.master, self.shared) = (origin.number, origin.master, origin.shared);
    }

    /// What no message of the kernel says, for a file.
    fn lines(&self) -> String {
        let mut lines = vec![format!("{NUMBER}{}", self.number)];
        lines.extend(self.master.iter().map(|master| format!("{MASTER}{master}")));
        lines.extend(self.token.iter().map(|token| format!("{TOKEN}{token}")));
        lines.extend(self.queueing.iter().map(|kind| format!("{QUEUEING}{kind}")));
        lines.extend(self.sysctls.iter().map(|setting| format!("{SYSCTL}{}", setting.line())));
        lines.join("\n")
    }

    fn read_lines(&mut self, text: &str) {
        for line in text.lines() {
            if let Some(number) = line.strip_prefix(NUMBER) {
                self.number = number.parse().unwrap_or_default();
            } else if let Some(master) = line.strip_prefix(MASTER) {
                self.master = Some(master.to_owned());
            } else if let Some(token) = line.strip_prefix(TOKEN) {
                self.token = token.parse().ok();
            } else if let Some(kind) = line.strip_prefix(QUEUEING) {
                self.queueing.push(kind.to_owned());
            } else if let Some(setting) = line.strip_prefix(SYSCTL) {
                self.sysctls.extend(Setting::from_line(setting));
            }
        }
    }

    /// For a file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut batch = Batch::default();
        let addresses = self.addresses.iter().cloned().map(RouteNetlinkMessage::NewAddress);
        let routes = self.routes.iter().chain(&self.shared).cloned().map(RouteNetlinkMessage::NewRoute);
        let proxied = self.proxied.iter().cloned().map(RouteNetlinkMessage::NewNeighbour);
        let neighbours = self.neighbours.iter().map(|&(address, mac)| encode::set_neigh(0, address, mac).0);
        let rules = self.rules.iter().cloned().map(RouteNetlinkMessage::NewRule);
        for message in addresses.chain(routes).chain(neighbours).chain(proxied).chain(rules) {
            batch.push(0, 0, message);
        }
        // As a message that is to be passed over (`NLMSG_NOOP`), for who does not know it.
        let mut lines = self.lines().into_bytes();
        lines.resize(lines.len().next_multiple_of(4), b'\n');
        let length = u32::try_from(NOOP_HEADER + lines.len()).unwrap_or(u32::MAX);
        let mut noop = [&length.to_ne_bytes()[..], &NOOP.to_ne_bytes()].concat();
        noop.resize(NOOP_HEADER, 0);
        [&[u8::from(self.up)], batch.bytes(), &noop, &lines].concat()
    }

    /// From a file; what is not understood is left out.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let Some((up, rest)) = bytes.split_first() else { return Settings::default() };
        let mut settings = Settings { up: *up != 0, ..Settings::default() };
        for answer in Answers(rest) {
            if answer.kind == NOOP {
                settings.read_lines(&String::from_utf8_lossy(answer.payload));
                continue;
            }
            match NetlinkMessage::<RouteNetlinkMessage>::deserialize(answer.bytes()).map(|message| message.payload) {
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewAddress(message))) => {
                    settings.addresses.push(message);
                }
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRoute(message))) => {
                    settings.routes.push(message);
                }
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewRule(message))) => settings.rules.push(message),
                Ok(NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(message)))
                    if message.header.flags.contains(NeighbourFlags::Proxy) =>
                {
                    settings.proxied.push(message);
                }
                Ok(NetlinkPayload::InnerMessage(other)) => {
                    settings.neighbours.extend(decode::neighbour(&other).map(|(_, address, mac)| (address, mac)));
                }
                _ => {}
            }
        }
        let number = settings.number;
        let is_shared = |message: &mut RouteMessage| matches!(leads_over(message, number), Way::AmongOthers);
        settings.shared = settings.routes.extract_if(.., is_shared).collect();
        settings
    }
}

/// What lines of a file begin with.
const NUMBER: &str = "number ";
const MASTER: &str = "master ";
const TOKEN: &str = "token ";
const QUEUEING: &str = "qdisc ";
const SYSCTL: &str = "sysctl ";

/// `NLMSG_NOOP`, and how long the head of a message is.
const NOOP: u16 = 1;
const NOOP_HEADER: usize = 16;

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

/// The nexthop object (ip-nexthop(8)) that a route goes by.
fn nexthop_of(message: &RouteMessage) -> Option<u32> {
    message
        .attributes
        .iter()
        .find_map(|part| if let RouteAttribute::NhId(number) = part { Some(*number) } else { None })
}

/// By what routes of a table are told from each other.
fn key_of(message: &RouteMessage) -> (AddressFamily, u32, u8, Option<&RouteAttribute>) {
    let mut table = u32::from(message.header.table);
    let mut destination = None;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(_) => destination = Some(attribute),
            _ => {}
        }
    }
    (message.header.address_family, table, message.header.destination_prefix_length, destination)
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

    use super::*;
    use crate::pin;

    /// One that is up, and names another one.
    fn link(index: IfIndex, kind: InfoKind, names: IfIndex) -> FoundLink {
        let mut message = LinkMessage::default();
        (message.header.index, message.header.flags) = (index, LinkFlags::Up);
        message.attributes = vec![
            LinkAttribute::IfName(format!("l{index}")),
            LinkAttribute::Link(names),
            LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]),
        ];
        decode::link(&RouteNetlinkMessage::NewLink(message)).unwrap()
    }

    #[test]
    fn the_lower_ones_come_first_and_none_comes_twice() {
        let unknown = || InfoKind::Other("pair".to_owned());
        let links = [
            link(5, InfoKind::Vlan, 4),
            link(2, InfoKind::Netkit, 1),
            link(1, InfoKind::Netkit, 2),
            link(4, InfoKind::Vlan, 1),
            link(6, unknown(), 7),
            link(7, unknown(), 6),
        ];
        let names = |number| above(&links, number, None).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(names(1), ["l4", "l5"]);
        assert_eq!(names(2), Vec::<String>::new());
        assert_eq!(names(6), ["l7"]);
        assert_eq!(above(&links, 1, Some(0)), []);
    }

    #[test]
    fn one_that_must_be_down_for_another_name_keeps_what_it_has() {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: an ordinary user");
            return;
        }
        let make = || {
            namespace::create().unwrap();
            let script = "ip link set lo up; ip link add v0 type veth peer name v1; ip link set v1 up; ip link set v0 up
                ip addr add 10.1.0.1/24 dev v0; ip addr add fd01::1/64 dev v0 nodad; ip route add 10.2.0.0/16 via 10.1.0.2
                ip link add link v0 name mv type macvlan; ip link set mv up; ip addr add 10.3.0.1/24 dev mv
                ip route add 10.4.0.0/16 via 10.3.0.2";
            assert!(Command::new("sh").args(["-ec", script]).status().unwrap().success());
            pin::own_network().unwrap()
        };
        let namespace = Realm::host().run(make).unwrap();
        let mut space = Space::open(namespace.as_fd()).unwrap();
        let [a, c, m]: [IfName; 3] = ["v0", "w0", "mv"].map(|name| name.parse().unwrap());
        let what = |settings: Settings| {
            let addresses = settings.addresses.iter().map(address_text);
            (settings.up, addresses.chain(settings.routes.iter().map(route_text)).collect::<Vec<_>>())
        };
        let before = [a, m].map(|dev| what(space.settings(dev).unwrap()));
        assert_eq!((before[0].1.len(), before[1].1.len()), (3, 2), "{before:?}");
        let number = space.number(a).unwrap();
        space.rename_down(number, a, c).unwrap();
        assert_eq!([c, m].map(|dev| what(space.settings(dev).unwrap())), before);
        // Where it cannot be called so, it has all again nevertheless.
        space.rename_down(number, c, m).unwrap_err();
        assert_eq!([c, m].map(|dev| what(space.settings(dev).unwrap())), before);
    }
}
