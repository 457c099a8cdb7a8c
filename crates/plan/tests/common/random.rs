//! Labs at random, within what a person could have written.

use hopyard_model::{AddressingDoc, EndDoc, FamilyDoc, Lab, LabDoc, LinkDoc, NodeDoc, SwitchDoc};
use proptest::collection::vec;
use proptest::prelude::*;

/// What a random lab is made of; small numbers that mean something only in [`Sketch::doc`].
#[derive(Clone, Debug)]
pub struct Sketch {
    pub nodes: Vec<(u8, u8)>,
    pub switches: Vec<u8>,
    pub links: Vec<(u8, u8, u8, u8)>,
    pub settings: (u8, u8, u8, u8),
}

pub fn sketch() -> impl Strategy<Value = Sketch> {
    let nodes = vec((0..12u8, 0..8u8), 1..9);
    let links = vec((any::<u8>(), any::<u8>(), 0..16u8, 0..8u8), 0..16);
    (nodes, vec(0..6u8, 0..3), links, (0..5u8, 0..3u8, 0..7u8, 0..3u8))
        .prop_map(|(nodes, switches, links, settings)| Sketch { nodes, switches, links, settings })
}

impl Sketch {
    /// As a document. Ends beyond the nodes are switches.
    pub fn doc(&self) -> LabDoc {
        let mut doc = LabDoc { name: Some("random".into()), ..LabDoc::default() };
        let (routing, multipath, addressing, neighbours) = self.settings;
        doc.routing = (routing == 4).then(|| "none".into());
        doc.multipath = Some(["auto", "full", "compact"][usize::from(multipath)].into());
        doc.addressing = AddressingDoc {
            ipv4: match addressing {
                3 => Some("none".into()),
                // Room for most, but none to spare.
                5 | 6 => Some("10.7.0.0/22".into()),
                _ => None,
            },
            ipv6: (addressing == 4).then(|| "none".into()),
            mode: Some(if addressing % 2 == 0 { "stable" } else { "compact" }.into()),
        };
        doc.neighbours = Some(["auto", "static", "dynamic"][usize::from(neighbours)].into());
        for (at, &(role, loopback)) in self.nodes.iter().enumerate() {
            doc.nodes.push(NodeDoc {
                name: format!("n{at}").as_str().into(),
                role: match role {
                    0 | 1 => Some("host".into()),
                    2 => Some("router".into()),
                    _ => None,
                },
                loopback: match loopback {
                    0 => vec!["none".into()],
                    1 => vec![format!("10.{}.7.1/24", 200 + at).as_str().into()],
                    2 => vec![
                        format!("192.168.109.{}/32", at + 1).as_str().into(),
                        format!("fd00:9::{}/128", at + 1).as_str().into(),
                    ],
                    _ => Vec::new(),
                },
                // Now in this node, now in another, so that it moves.
                interfaces: if role == 3 || role == 4 { vec![format!("wan{at}").as_str().into()] } else { Vec::new() },
                addresses: if role == 4 {
                    vec![(format!("wan{at}").as_str().into(), format!("198.51.100.{}/30", 1 + 4 * at).as_str().into())]
                } else {
                    Vec::new()
                },
                ..NodeDoc::default()
            });
        }
        for (at, &kind) in self.switches.iter().enumerate() {
            doc.switches.push(SwitchDoc {
                name: format!("s{at}").as_str().into(),
                ipv4: match kind {
                    0 => Some(format!("172.16.{at}.0/24").as_str().into()),
                    1 => Some("none".into()),
                    _ => None,
                },
                ..SwitchDoc::default()
            });
        }
        let vertices = self.nodes.len() + self.switches.len();
        for (at, &(a, b, kind, cost)) in self.links.iter().enumerate() {
            let [a, b] = [a, b].map(|end| usize::from(end) % vertices);
            if a == b {
                continue;
            }
            let is_switch = |end: usize| end >= self.nodes.len();
            let name = |end: usize| match end.checked_sub(self.nodes.len()) {
                Some(switch) => format!("s{switch}"),
                None => format!("n{end}"),
            };
            let end = |end: usize| EndDoc { node: name(end).as_str().into(), iface: None };
            let mut link = LinkDoc { ends: [end(a), end(b)], ..LinkDoc::default() };
            link.cost = (cost < 3).then(|| u64::from(cost + 1).into());
            if !is_switch(a) && !is_switch(b) {
                let at = at + 1;
                let one = |text: String| text.as_str().into();
                match kind {
                    0 => link.ipv4 = Some(FamilyDoc::Prefix(one(format!("192.168.{at}.0/30")))),
                    1 => {
                        link.ipv4 =
                            Some(FamilyDoc::Each(vec![one(format!("10.7.{at}.1/24")), one(format!("10.7.{at}.2/24"))]));
                        link.ipv6 = Some(FamilyDoc::Each(vec![
                            one(format!("fd00:{at}::1/64")),
                            one(format!("fd00:{at}::2/64")),
                        ]));
                    }
                    2 => link.ipv6 = Some(FamilyDoc::Prefix("none".into())),
                    3 => link.mtu = Some(1200.into()),
                    4 => link.mtu = Some(9000.into()),
                    _ => {}
                }
            }
            doc.links.push(link);
        }
        doc
    }

    /// As a lab, unless it is none (a ring of switches).
    pub fn lab(&self) -> Option<Lab> {
        self.doc().resolve().ok().map(|(lab, _)| lab)
    }
}
