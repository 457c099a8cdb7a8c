//! A lab as a topology file.

use std::fmt::{Display, Write};

use hopyard_model::{
    AddressingMode, End, Lab, Link, LinkAddresses, Multipath, NatDestination, NatTarget, NeighbourMode, Node, NodeNat,
    Role, Routing, StaticRoute, StaticRouteKind, Switch, SwitchAddresses, Vertex, Via,
};
use hopyard_net::{Family, RouteKey};

/// The lab as a topology file that says everything, also what was chosen: reading it gives the
/// same lab again, but for the places in the text and for the delays, which are not applied yet.
pub fn to_yaml(lab: &Lab) -> String {
    let mut out = Writer::default();
    out.line(0, format_args!("name: {}", quoted(lab.name().as_str())));
    if lab.routing() == Routing::None {
        out.line(0, "routing: none");
    }
    match lab.multipath() {
        Multipath::Auto => {}
        Multipath::Full => out.line(0, "multipath: full"),
        Multipath::Compact => out.line(0, "multipath: compact"),
    }
    match lab.neighbours() {
        NeighbourMode::Auto => {}
        NeighbourMode::Static => out.line(0, "neighbours: static"),
        NeighbourMode::Dynamic => out.line(0, "neighbours: dynamic"),
    }
    let addressing = lab.addressing();
    let pool = |family| addressing.pool(family).map_or("none".to_owned(), |pool| pool.to_string());
    let mode = match addressing.mode {
        AddressingMode::Auto => "auto",
        AddressingMode::Stable => "stable",
        AddressingMode::Compact => "compact",
    };
    let (ipv4, ipv6) = (pool(Family::Ipv4), pool(Family::Ipv6));
    out.line(0, format_args!("addressing: {{ ipv4: {ipv4}, ipv6: \"{ipv6}\", mode: {mode} }}"));

    // `nodes: []` and no `nodes` at all differ: without the key a link makes its nodes.
    out.line(0, if lab.nodes().is_empty() { "nodes: []" } else { "nodes:" });
    for node in lab.nodes() {
        out.node(lab, node);
    }
    if !lab.switches().is_empty() {
        out.line(0, "switches:");
        for switch in lab.switches() {
            out.switch(switch);
        }
    }
    if !lab.links().is_empty() {
        out.line(0, "links:");
        for link in lab.links() {
            out.link(lab, link);
        }
    }
    if !lab.expectations().is_empty() {
        out.line(0, "expect:");
        for expectation in lab.expectations() {
            out.line(2, format_args!("- {}", quoted(&expectation.words(lab).to_string())));
        }
    }
    out.text
}

#[derive(Default)]
struct Writer {
    text: String,
}

impl Writer {
    fn line(&mut self, indent: usize, text: impl Display) {
        // Writing to a string cannot fail.
        writeln!(self.text, "{:indent$}{text}", "").unwrap_or_default();
    }

    fn node(&mut self, lab: &Lab, node: &Node) {
        self.line(2, format_args!("{}:", quoted(node.name.as_str())));
        match node.role {
            Some(Role::Host) => self.line(4, "role: host"),
            Some(Role::Router) => self.line(4, "role: router"),
            None => {}
        }
        if let Some(forward) = node.forward {
            self.line(4, format_args!("forward: {forward}"));
        }
        match node.loopback.as_deref() {
            None => {}
            Some([]) => self.line(4, "loopback: none"),
            Some(list) => self.line(4, format_args!("loopback: {}", flow(list))),
        }
        if !node.interfaces.is_empty() {
            self.line(4, format_args!("interfaces: {}", flow(&node.interfaces)));
        }
        if !node.addresses.is_empty() {
            self.line(4, "addresses:");
            for (iface, list) in &node.addresses {
                self.line(6, format_args!("{}: {}", quoted(iface.as_str()), flow(list)));
            }
        }
        if !node.sysctls.is_empty() {
            self.line(4, "sysctls:");
            for (key, value) in &node.sysctls {
                self.line(6, format_args!("{}: {}", quoted(key.as_str()), quoted(value)));
            }
        }
        if node.uplink {
            self.line(4, "uplink: true");
        }
        self.nat(lab, &node.nat);
        if !node.routes.is_empty() {
            self.line(4, "routes:");
            for route in &node.routes {
                self.line(6, format_args!("- {}", quoted(&words(lab, route))));
            }
        }
    }

    fn nat(&mut self, lab: &Lab, nat: &NodeNat) {
        if nat.is_empty() {
            return;
        }
        self.line(4, "nat:");
        for key in ["masquerade", "snat"] {
            let mut of_key = nat.sources.iter().filter(|it| it.to.is_some() == (key == "snat")).peekable();
            if of_key.peek().is_some() {
                self.line(6, format_args!("{key}:"));
            }
            for source in of_key {
                let from = source.from.map(|from| format!(", from: \"{from}\"")).unwrap_or_default();
                let to = source.to.map(|to| format!(", to: \"{to}\"")).unwrap_or_default();
                self.line(8, format_args!("- {{ out: \"{}\"{from}{to} }}", source.out));
            }
        }
        let target = |to: NatTarget, port: Option<u16>| match (to, port) {
            (NatTarget::Node(id), None) => lab.node(id).name.to_string(),
            (NatTarget::Node(id), Some(port)) => format!("{}:{port}", lab.node(id).name),
            (NatTarget::Addr(addr), None) => addr.to_string(),
            (NatTarget::Addr(addr), Some(port)) => std::net::SocketAddr::new(addr, port).to_string(),
        };
        let address = |it: &NatDestination| match (it.address, it.service) {
            (Some(addr), Some(service)) => {
                format!("{}/{}", std::net::SocketAddr::new(addr, service.port), service.transport)
            }
            (None, Some(service)) => format!("{}/{}", service.port, service.transport),
            (Some(addr), None) => addr.to_string(),
            (None, None) => String::new(),
        };
        let of_ports = |ports: bool| {
            let list = nat.destinations.iter().filter(move |it| it.service.is_some() == ports);
            list.map(|it| (address(it), target(it.to, it.port))).collect::<Vec<_>>()
        };
        let floating = nat.floating.iter().map(|it| (it.address.to_string(), target(it.to, None))).collect();
        for (key, list) in [("dnat", of_ports(false)), ("floating", floating), ("publish", of_ports(true))] {
            if !list.is_empty() {
                self.line(6, format_args!("{key}:"));
            }
            for (from, to) in list {
                self.line(8, format_args!("\"{from}\": \"{to}\""));
            }
        }
    }

    fn switch(&mut self, switch: &Switch) {
        self.line(2, format_args!("{}:", quoted(switch.name.as_str())));
        for (key, given) in [("ipv4", switch.ipv4), ("ipv6", switch.ipv6)] {
            match given {
                SwitchAddresses::Auto => {}
                SwitchAddresses::None => self.line(4, format_args!("{key}: none")),
                SwitchAddresses::Prefix(net) => self.line(4, format_args!("{key}: \"{net}\"")),
            }
        }
        if let Some(mtu) = switch.mtu {
            self.line(4, format_args!("mtu: {mtu}"));
        }
        if switch.cost != 1 {
            self.line(4, format_args!("cost: {}", switch.cost));
        }
    }

    fn link(&mut self, lab: &Lab, link: &Link) {
        let [a, b] = link.ends.each_ref().map(|end| endpoint(lab, end));
        let between_switches = matches!(link.ends[0].vertex, Vertex::Switch(_));
        let says = |given: LinkAddresses| given != LinkAddresses::Auto && !between_switches;
        let macs = link.ends.each_ref().map(|end| end.mac);
        let has_mac = macs.iter().any(Option::is_some);
        if !(says(link.ipv4) || says(link.ipv6) || has_mac || link.mtu.is_some() || link.cost != 1) {
            return self.line(2, format_args!("- {}", quoted(&format!("{a} -- {b}"))));
        }
        self.line(2, format_args!("- endpoints: [{}, {}]", quoted(&a), quoted(&b)));
        for (key, given) in [("ipv4", link.ipv4), ("ipv6", link.ipv6)] {
            match given {
                LinkAddresses::None if !between_switches => self.line(4, format_args!("{key}: none")),
                LinkAddresses::Auto | LinkAddresses::None => {}
                LinkAddresses::Prefix(net) => self.line(4, format_args!("{key}: \"{net}\"")),
                LinkAddresses::Pair(pair) => self.line(4, format_args!("{key}: {}", flow(&pair))),
                LinkAddresses::One(net) => self.line(4, format_args!("{key}: {}", flow(&[net]))),
            }
        }
        match macs {
            [Some(a), Some(b)] => self.line(4, format_args!("mac: {}", flow(&[a, b]))),
            [Some(a), None] => self.line(4, format_args!("mac: {}", flow(&[a]))),
            [None, _] => {}
        }
        if let Some(mtu) = link.mtu {
            self.line(4, format_args!("mtu: {mtu}"));
        }
        if link.cost != 1 {
            self.line(4, format_args!("cost: {}", link.cost));
        }
    }
}

/// `near:eth0`.
fn endpoint(lab: &Lab, end: &End) -> String {
    let iface = end.iface.long.as_ref().map_or(end.iface.name.as_str(), |long| long.as_str());
    format!("{}:{iface}", lab.vertex_name(end.vertex))
}

/// A route in the words of ip-route(8).
fn words(lab: &Lab, route: &StaticRoute) -> String {
    let kind = match route.kind {
        StaticRouteKind::Unicast { .. } => "",
        StaticRouteKind::Blackhole => "blackhole ",
        StaticRouteKind::Unreachable => "unreachable ",
        StaticRouteKind::Prohibit => "prohibit ",
    };
    let mut text = format!("{kind}{}", route.to);
    let mut add = |key: &str, value: &dyn Display| write!(text, " {key} {value}").unwrap_or_default();
    if let StaticRouteKind::Unicast { via, dev } = &route.kind {
        match via {
            Some(Via::Addr(addr)) => add("via", addr),
            Some(Via::Node(id)) => add("via", &lab.node(*id).name),
            None => {}
        }
        if let Some(dev) = dev {
            add("dev", dev);
        }
    }
    if route.metric != 0 {
        add("metric", &route.metric);
    }
    if route.table != RouteKey::MAIN {
        add("table", &route.table);
    }
    text
}

/// `["a", "b"]`.
fn flow<T: Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(|item| format!("\"{item}\"")).collect();
    format!("[{}]", items.join(", "))
}

/// A text as YAML, in quotes unless any reader takes it for text without them.
fn quoted(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':' | ' '))
        && !text.ends_with([':', ' '])
        && !text.contains(": ")
        // The words of YAML 1.1, which other readers of the file may know.
        && !["y", "n", "yes", "no", "on", "off", "true", "false", "null"].contains(&text.to_ascii_lowercase().as_str());
    if plain {
        return text.to_owned();
    }
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\t' => out.push_str("\\t"),
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                write!(out, "\\U{:08x}", u32::from(c)).unwrap_or_default();
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
