//! What shall be so: `web, cache -> db:5432/tcp`, `guest -x-> all`.

use std::net::IpAddr;

use hopyard_net::{IpNet, Service, Transport, without_brackets};

use super::vertices::Vertices;
use crate::nearest::did_you_mean;
use crate::{ExpectTarget, Expectation, LabDoc, NodeId, Nodes, Problem, Span, Spanned, Vertex};

/// What one may say, for the help.
const USAGE: &str = "write `NODES -> NODES|ADDRESS[:PORT[/tcp|/udp]]`, or `-x->` for what shall not be reached; NODES is \
                     `all`, or names with commas between them";

/// All that is expected.
pub(super) fn all(doc: &LabDoc, vertices: &Vertices<'_>, problems: &mut Vec<Problem>) -> Vec<Expectation> {
    let mut found: Vec<Expectation> = Vec::new();
    for given in &doc.expect {
        let mut reader = Reader { at: given.span, vertices, problems };
        let Some(read) = reader.line(given) else { continue };
        if let Some(other) = found.iter().find(|other| other.contradicts(&read)) {
            problems.push(
                Problem::error("contrary-expectations", given.span, "the contrary is expected, too")
                    .also(other.origin, "here")
                    .help("a line that names both nodes decides over one with `all`; leave one of the two out"),
            );
        }
        found.push(read);
    }
    found
}

struct Reader<'r, 'a> {
    at: Option<Span>,
    vertices: &'r Vertices<'a>,
    problems: &'r mut Vec<Problem>,
}

impl Reader<'_, '_> {
    fn bad(&mut self, message: String) {
        self.wrong(message, USAGE);
    }

    fn wrong(&mut self, message: String, help: impl Into<String>) {
        self.problems.push(Problem::error("bad-expectation", self.at, message).help(help));
    }

    fn line(&mut self, given: &Spanned<String>) -> Option<Expectation> {
        let text = given.value.trim();
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_arrow = |word: &&str| [Expectation::REACHES, Expectation::REACHES_NOT].contains(word);
        let mut sides = words.split(is_arrow).map(|side| side.join(" "));
        let (Some(from), Some(to), None) = (sides.next(), sides.next(), sides.next()) else {
            self.no_arrow(text, &words);
            return None;
        };
        let reaches = words.contains(&Expectation::REACHES);
        let (to, service) = self.service(&to)?;
        let from = self.nodes(&from)?;
        let to = match to {
            Host::Addr(addr) => match super::addresses::usable(addr.into()) {
                Ok(()) => ExpectTarget::Addr(addr),
                Err(why) => {
                    self.problems.push(Problem::error("bad-address", self.at, why));
                    return None;
                }
            },
            Host::Nodes(names) => ExpectTarget::Nodes(self.nodes(names)?),
        };
        if let (Nodes::These(a), ExpectTarget::Nodes(Nodes::These(b))) = (&from, &to)
            && let ([one], [other]) = (a.as_slice(), b.as_slice())
            && one == other
        {
            let name = self.vertices.text(Vertex::Node(*one));
            self.bad(format!("`{name}` always reaches itself"));
            return None;
        }
        Some(Expectation { from, to, service, reaches, origin: given.span })
    }

    /// No arrow stands between the two sides, or more than one does.
    fn no_arrow(&mut self, text: &str, words: &[&str]) {
        // A name may have what an arrow begins with, but not `>`.
        let split = |arrow: &str| text.split_once(arrow).map(|(from, to)| (from.trim(), to.trim()));
        let joined = |arrow: &str| split(arrow).map(|(from, to)| format!("`{from} {arrow} {to}`"));
        let readings = [Expectation::REACHES_NOT, Expectation::REACHES].into_iter().filter_map(joined);
        let readings: Vec<String> = readings.collect();
        let is_sign = |c: char| !c.is_alphanumeric();
        let is_near =
            |word: &&&str| word.len() > 1 && word.chars().any(is_sign) && word.chars().all(|c| is_sign(c) || c == 'x');
        match (readings.as_slice(), words.iter().find(is_near)) {
            ([_, ..], None) if text.matches('>').count() == 1 => {
                let message =
                    format!("`{text}` has no blank on both sides of the arrow, and names may have a `-` in them");
                self.wrong(message, format!("write {}", readings.join(" or ")));
            }
            (_, Some(word)) if text.matches('>').count() < 2 => {
                let message = format!("`{word}` is no arrow");
                self.wrong(message, "write `->` for what shall be reached, `-x->` for what shall not");
            }
            _ => self.bad(format!("`{text}` does not say who reaches whom")),
        }
    }

    /// What stands before the port, and the port: `db:5432/tcp`, `[fd00::5]:53/udp`.
    fn service<'t>(&mut self, text: &'t str) -> Option<(Host<'t>, Option<Service>)> {
        let (to, service) = if let Some(rest) = text.strip_prefix('[') {
            let Some((inner, rest)) = rest.split_once(']') else {
                self.wrong(format!("`{text}` has no `]`"), "write `[ADDRESS]`, and `:PORT` behind that");
                return None;
            };
            let Ok(addr) = inner.parse::<IpAddr>() else {
                let message = format!("`[{inner}]` is no address; in brackets stands an address of IPv6");
                self.wrong(message, format!("write `{inner}{rest}` if that is a node"));
                return None;
            };
            let service = rest.strip_prefix(':');
            if service.is_none() && !rest.is_empty() {
                self.wrong(format!("`{rest}` behind the address is no port"), format!("write `[{inner}]:PORT`"));
                return None;
            }
            (Host::Addr(addr), service)
        } else if let Ok(addr) = text.parse::<IpAddr>() {
            if let Some((addr, port)) = without_brackets(text) {
                let message = format!("`{text}` may be an address, or port {port} of {addr}");
                self.wrong(message, format!("write `[{addr}]:{port}` for the port, `[{text}]` for the address"));
                return None;
            }
            (Host::Addr(addr), None)
        } else {
            let (to, service) = text.split_once(':').map_or((text, None), |(to, service)| (to, Some(service)));
            if let Some((addr, port)) = without_brackets(text) {
                let message = format!("`{text}` has no brackets around its address");
                self.wrong(message, format!("write `[{addr}]:{port}`"));
                return None;
            }
            (to.parse::<IpAddr>().map_or(Host::Nodes(to), Host::Addr), service)
        };
        let Some(service) = service else { return Some((to, None)) };
        let (port, transport) = service.split_once('/').unwrap_or((service, "tcp"));
        if service.contains(',') {
            let message = "a line is about one port, which stands behind its last name".to_owned();
            self.wrong(message, "write `a -> b, c:80`; another port takes another line");
            return None;
        }
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            other => {
                let near = did_you_mean(other, ["tcp", "udp"]);
                let help = near.unwrap_or_else(|| "allowed are `tcp` and `udp`".to_owned());
                self.wrong(format!("`{other}` is no protocol with ports"), help);
                return None;
            }
        };
        let digits = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
        let Some(port) = port.parse::<u16>().ok().filter(|port| digits && *port != 0) else {
            self.bad(format!("`{port}` is no port; allowed are 1 to 65535"));
            return None;
        };
        Some((to, Some(Service { transport, port })))
    }

    /// `all`, or names.
    fn nodes(&mut self, text: &str) -> Option<Nodes> {
        let text = text.trim();
        let is_all = text == Expectation::ALL;
        if let (true, Some(vertex)) = (is_all, self.vertices.find(text)) {
            let what = if matches!(vertex, Vertex::Node(_)) { "node" } else { "switch" };
            self.problems.push(
                Problem::error(
                    "bad-expectation",
                    self.at,
                    format!("`{text}` is every node, and a {what} is called so"),
                )
                .also(self.vertices.place(vertex), "here")
                .help(format!("give that {what} another name")),
            );
            return None;
        }
        if is_all {
            return Some(Nodes::All);
        }
        let mut found = Vec::new();
        let mut complete = true;
        for name in text.split(',').map(str::trim) {
            match self.node(name) {
                Some(id) if found.contains(&id) => {}
                Some(id) => found.push(id),
                None => complete = false,
            }
        }
        complete.then_some(Nodes::These(found))
    }

    fn node(&mut self, name: &str) -> Option<NodeId> {
        match self.vertices.find(name) {
            Some(Vertex::Node(id)) => return Some(id),
            Some(Vertex::Switch(_)) => {
                let message = format!("`{name}` is a switch: it has no address, and sends nothing");
                self.problems.push(Problem::error("bad-expectation", self.at, message).help("name the nodes at it"));
            }
            None if name.parse::<IpNet>().is_ok() => {
                self.bad(format!("`{name}` is a network; one address stands without a length"));
            }
            None if name.is_empty() => self.bad("a name is missing".to_owned()),
            None if name == Expectation::ALL => self.bad("`all` stands alone: it is all nodes".to_owned()),
            None if name.contains(char::is_whitespace) => self.bad(format!("`{name}` is no name of a node")),
            None => self.problems.push(self.vertices.unknown("node", name, self.at)),
        }
        None
    }
}

/// What stands before a port.
enum Host<'t> {
    Addr(IpAddr),
    Nodes(&'t str),
}
