//! What shall be so: `web, cache -> db:5432/tcp`, `guest -x-> all`.

use std::net::IpAddr;

use hopyard_net::{IpNet, Service, Transport};

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
        self.problems.push(Problem::error("bad-expectation", self.at, message).help(USAGE));
    }

    fn line(&mut self, given: &Spanned<String>) -> Option<Expectation> {
        let text = given.value.trim();
        let words: Vec<&str> = text.split_whitespace().collect();
        let is_arrow = |word: &&str| [Expectation::REACHES, Expectation::REACHES_NOT].contains(word);
        let mut sides = words.split(is_arrow).map(|side| side.join(" "));
        let (Some(from), Some(to), None) = (sides.next(), sides.next(), sides.next()) else {
            self.bad(format!("`{text}` does not say who reaches whom"));
            return None;
        };
        let reaches = words.contains(&Expectation::REACHES);
        let (to, service) = self.service(&to)?;
        let from = self.nodes(&from)?;
        let to = match to.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            Ok(addr) => match super::addresses::usable(addr.into()) {
                Ok(()) => ExpectTarget::Addr(addr),
                Err(why) => {
                    self.problems.push(Problem::error("bad-address", self.at, why));
                    return None;
                }
            },
            Err(_) => ExpectTarget::Nodes(self.nodes(to)?),
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

    /// What stands before the port, and the port: `db:5432/tcp`, `[fd00::5]:53/udp`.
    fn service<'t>(&mut self, text: &'t str) -> Option<(&'t str, Option<Service>)> {
        let split = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((address, rest)) => rest.strip_prefix(':').map(|service| (address, service)),
            None if text.parse::<IpAddr>().is_ok() => None,
            None => text.split_once(':'),
        };
        let Some((to, service)) = split else { return Some((text, None)) };
        let (port, transport) = service.split_once('/').unwrap_or((service, "tcp"));
        let transport = match transport {
            "tcp" => Transport::Tcp,
            "udp" => Transport::Udp,
            other => {
                let mut problem =
                    Problem::error("bad-expectation", self.at, format!("`{other}` is no protocol with ports"));
                let near = did_you_mean(other, ["tcp", "udp"]);
                problem.help = Some(near.unwrap_or_else(|| "allowed are `tcp` and `udp`".to_owned()));
                self.problems.push(problem);
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
        if is_all && self.vertices.find(text).is_some() {
            self.bad(format!("`{text}` is a node here, and all nodes as well"));
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
