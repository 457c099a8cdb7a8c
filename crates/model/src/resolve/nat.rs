//! What a node translates: interfaces, addresses, ports.

use std::collections::HashMap;
use std::net::IpAddr;

use hopyard_net::{Family, IfName, IpNet, Service, Transport};

use super::addresses;
use super::cables::Cables;
use super::nodes::{iface, unknown_iface};
use super::vertices::Vertices;
use crate::nearest::did_you_mean;
use crate::{
    NatDestination, NatDoc, NatFloating, NatSource, NatSourceDoc, NatTarget, NodeId, NodeNat, Problem, Span, Spanned,
    Vertex,
};

/// What is translated, and in which words.
pub(super) fn all(
    doc: &NatDoc,
    node: NodeId,
    vertices: &Vertices<'_>,
    cables: &Cables<'_>,
    problems: &mut Vec<Problem>,
) -> NodeNat {
    let mut reader = Reader { node, text: vertices.text(Vertex::Node(node)), vertices, cables, problems };
    let mut nat = NodeNat { origin: doc.span, ..NodeNat::default() };
    let masquerade = doc.masquerade.iter().filter_map(|given| reader.source(given, "masquerade"));
    nat.sources = masquerade.collect();
    nat.sources.extend(doc.snat.iter().filter_map(|given| reader.source(given, "snat")));
    nat.destinations = doc.dnat.iter().filter_map(|(key, to)| reader.dnat(key, to)).collect();
    nat.destinations.extend(doc.publish.iter().filter_map(|(key, to)| reader.publish(key, to)));
    nat.floating = doc.floating.iter().filter_map(|(key, to)| reader.floating(key, to)).collect();
    reader.twice(&nat);
    nat
}

struct Reader<'r, 'a> {
    node: NodeId,
    text: &'a str,
    vertices: &'r Vertices<'a>,
    cables: &'r Cables<'a>,
    problems: &'r mut Vec<Problem>,
}

impl Reader<'_, '_> {
    fn bad(&mut self, at: Option<Span>, message: String, help: &str) {
        self.problems.push(Problem::error("bad-nat", at, message).help(help));
    }

    fn source(&mut self, given: &NatSourceDoc, key: &str) -> Option<NatSource> {
        let from = match &given.from {
            None => None,
            Some(from) => Some(self.prefix(from)?),
        };
        let to = match &given.to {
            None => None,
            Some(to) => Some(self.address(to)?),
        };
        let Some(out) = &given.out else {
            let help = "name the interface by which packets leave, as in `out: eth1`";
            self.bad(given.span, format!("`{key}` has no `out`"), help);
            return None;
        };
        let out = self.out(out)?;
        let origin = given.span;
        match (key, to) {
            ("snat", None) => {
                let help = "give the new source, as in `to: 192.0.2.1`; `masquerade` takes that of the interface";
                self.bad(given.span, "`snat` has no `to`".to_owned(), help);
                return None;
            }
            ("masquerade", Some(_)) => {
                let at = given.to.as_ref().and_then(|to| to.span);
                let message = "`masquerade` takes the address of the interface, so it has no `to`".to_owned();
                self.bad(at, message, "`snat` takes another one");
                return None;
            }
            _ => {}
        }
        if let (Some(from), Some(to)) = (from, to)
            && Family::of(from.addr()) != Family::of(to)
        {
            let message = format!("`{from}` is {}, and `{to}` {}", Family::of(from.addr()), Family::of(to));
            self.bad(given.to.as_ref().and_then(|to| to.span), message, "an address becomes one of its own family");
            return None;
        }
        Some(NatSource { out, from, to, origin })
    }

    fn out(&mut self, given: &Spanned<String>) -> Option<IfName> {
        let found = iface(self.cables, self.node, &given.value);
        match found {
            Some(_) if given.value == "lo" => {
                self.bad(given.span, "nothing leaves by `lo`".to_owned(), "name the interface to the outside");
                None
            }
            None => {
                self.problems.push(unknown_iface(self.cables, self.node, self.text, &given.value, given.span));
                None
            }
            found => found,
        }
    }

    fn prefix(&mut self, given: &Spanned<String>) -> Option<IpNet> {
        let net = if let Ok(addr) = given.value.parse::<IpAddr>() {
            IpNet::from(addr)
        } else {
            let family = given.value.parse::<IpNet>().map_or(Family::Ipv4, |net| Family::of(net.addr()));
            addresses::prefix(given, family, self.problems)?
        };
        if net.prefix_len() == 0 {
            self.bad(given.span, format!("`{net}` is every source"), "leave `from` out");
            return None;
        }
        Some(net)
    }

    fn address(&mut self, given: &Spanned<String>) -> Option<IpAddr> {
        let Ok(addr) = given.value.parse::<IpAddr>() else {
            let without =
                given.value.parse::<IpNet>().map(|net| format!("write it without a length, `{}`", net.addr()));
            let help = without.unwrap_or_else(|_| "write one as in `192.0.2.1`".to_owned());
            self.bad(given.span, format!("`{}` is no address", given.value), &help);
            return None;
        };
        self.usable(addr, given.span)
    }

    fn usable(&mut self, addr: IpAddr, at: Option<Span>) -> Option<IpAddr> {
        match addresses::usable(IpNet::from(addr)) {
            Ok(()) => Some(addr),
            Err(why) => {
                self.problems.push(Problem::error("bad-address", at, why));
                None
            }
        }
    }

    /// An address or the name of a node; the address is of the family where one is wanted.
    fn target(&mut self, text: &str, at: Option<Span>, family: Option<Family>) -> Option<NatTarget> {
        if let Ok(addr) = text.parse::<IpAddr>() {
            if let Some(wanted) = family
                && wanted != Family::of(addr)
            {
                let message = format!("`{addr}` is {}, and stands for an address that is {wanted}", Family::of(addr));
                self.bad(at, message, "an address becomes one of its own family");
                return None;
            }
            return self.usable(addr, at).map(NatTarget::Addr);
        }
        match self.vertices.find(text) {
            Some(Vertex::Node(id)) if id == self.node => {
                let message = format!("`{text}` is the node itself, to which it need not be sent on");
                self.bad(at, message, "name the node behind it, or its address");
                None
            }
            Some(Vertex::Node(id)) => Some(NatTarget::Node(id)),
            Some(Vertex::Switch(_)) => {
                let message = format!("`{text}` is a switch, which has no address");
                self.bad(at, message, "name a node, or an address");
                None
            }
            None if text.is_empty() || text.contains(['/', ':']) => {
                let message = format!("`{text}` is no target");
                self.bad(at, message, "name a node, or one address, without a length");
                None
            }
            None => {
                self.problems.push(self.vertices.unknown("target", text, at));
                None
            }
        }
    }

    fn dnat(&mut self, key: &Spanned<String>, to: &Spanned<String>) -> Option<NatDestination> {
        let address = self.address(key)?;
        let to = self.target(&to.value, to.span, Some(Family::of(address)))?;
        Some(NatDestination { address: Some(address), service: None, to, port: None, origin: key.span })
    }

    fn floating(&mut self, key: &Spanned<String>, to: &Spanned<String>) -> Option<NatFloating> {
        let address = self.address(key)?;
        let to = self.target(&to.value, to.span, Some(Family::of(address)))?;
        Some(NatFloating { address, to, origin: key.span })
    }

    /// `[ADDRESS:]PORT[/tcp|/udp]`, and `TARGET[:PORT]`.
    fn publish(&mut self, key: &Spanned<String>, to: &Spanned<String>) -> Option<NatDestination> {
        const USAGE: &str = "write `[ADDRESS:]PORT[/tcp|/udp]: NODE|ADDRESS[:PORT]`, as in `8080: web:80`";
        let (rest, transport) = match key.value.split_once('/') {
            None => (key.value.as_str(), Transport::Tcp),
            Some((rest, "tcp")) => (rest, Transport::Tcp),
            Some((rest, "udp")) => (rest, Transport::Udp),
            Some((_, other)) => {
                let help = did_you_mean(other, ["tcp", "udp"]);
                let help = help.unwrap_or_else(|| "allowed are `tcp` and `udp`".to_owned());
                self.bad(key.span, format!("`{other}` is no protocol with ports"), &help);
                return None;
            }
        };
        let (address, port) = split_port(rest);
        let (address, port) = match port {
            Some(port) => (Some(address), port),
            None => (None, rest),
        };
        let Some(port) = number(port) else {
            self.bad(key.span, format!("`{port}` is no port; allowed are 1 to 65535"), USAGE);
            return None;
        };
        let address = match address {
            None => None,
            Some(text) => Some(self.address(&Spanned { value: text.to_owned(), span: key.span })?),
        };
        let (target, target_port) = split_port(&to.value);
        let target_port = match target_port {
            None => None,
            Some(text) => {
                let read = number(text);
                if read.is_none() {
                    self.bad(to.span, format!("`{text}` is no port; allowed are 1 to 65535"), USAGE);
                }
                Some(read?)
            }
        };
        let to = self.target(target, to.span, address.map(Family::of))?;
        let service = Some(Service { transport, port });
        let port = target_port.filter(|target| *target != port);
        Some(NatDestination { address, service, to, port, origin: key.span })
    }

    /// Of two that fit the same packets the second would do nothing.
    fn twice(&mut self, nat: &NodeNat) {
        let mut destinations: HashMap<(Option<IpAddr>, Option<Service>), Option<Span>> = HashMap::new();
        let floating = nat.floating.iter().map(|it| ((Some(it.address), None), it.origin));
        let others = nat.destinations.iter().map(|it| ((it.address, it.service), it.origin));
        for (key, at) in others.chain(floating) {
            if let Some(first) = destinations.get(&key) {
                let what = match key {
                    (Some(address), None) => format!("`{address}`"),
                    (None, Some(it)) => format!("port {}/{}", it.port, it.transport),
                    (address, Some(it)) => {
                        let address = address.map(|it| it.to_string()).unwrap_or_default();
                        format!("port {}/{} of `{address}`", it.port, it.transport)
                    }
                    (None, None) => "everything".to_owned(),
                };
                self.clash(at, *first, format!("`{}` sends {what} to two places", self.text));
            } else {
                destinations.insert(key, at);
            }
        }
        let mut sources: HashMap<(IfName, Option<IpNet>, Option<Family>), Option<Span>> = HashMap::new();
        for it in &nat.sources {
            let families: &[Option<Family>] = match it.to {
                Some(IpAddr::V4(_)) => &[Some(Family::Ipv4)],
                Some(IpAddr::V6(_)) => &[Some(Family::Ipv6)],
                None => &[Some(Family::Ipv4), Some(Family::Ipv6)],
            };
            let mut clash = None;
            for family in families {
                let key = (it.out, it.from, *family);
                if let Some(first) = sources.get(&key) {
                    clash = Some(*first);
                } else {
                    sources.insert(key, it.origin);
                }
            }
            if let Some(first) = clash {
                let from = it.from.map(|from| format!(" from `{from}`")).unwrap_or_default();
                let message = format!("what leaves `{}` by `{}`{from} is given two sources", self.text, it.out);
                self.clash(it.origin, first, message);
            }
        }
    }

    fn clash(&mut self, at: Option<Span>, first: Option<Span>, message: String) {
        self.problems.push(
            Problem::error("duplicate-nat", at, message)
                .also(first, "the first one")
                .help("the first one would always decide; leave one of them out"),
        );
    }
}

/// What stands before the port, and the port: `web:80`, `192.0.2.1:80`, `[fd00::5]:80`; an address of IPv6
/// without brackets has none.
fn split_port(text: &str) -> (&str, Option<&str>) {
    if let Some(rest) = text.strip_prefix('[') {
        return match rest.split_once(']') {
            Some((address, "")) => (address, None),
            Some((address, port)) => match port.strip_prefix(':') {
                Some(port) => (address, Some(port)),
                None => (text, None),
            },
            None => (text, None),
        };
    }
    match text.rsplit_once(':') {
        Some((before, port)) if !before.contains(':') => (before, Some(port)),
        _ => (text, None),
    }
}

fn number(text: &str) -> Option<u16> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|port| digits && *port != 0)
}
