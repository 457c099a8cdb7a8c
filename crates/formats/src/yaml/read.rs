//! What a topology file says, as a document with a place for every value.

use hopyard_model::{
    AddressingDoc, EndDoc, FamilyDoc, LabDoc, LinkDoc, NatDoc, NatSourceDoc, NodeDoc, Problem, Spanned, SwitchDoc,
};

use super::fields::Fields;
use super::tree::{self, Kind, Value};
use crate::SourceFile;
use crate::links::{self, Line};

// The keys of each mapping; the schema has the same, and a test compares them.
pub(super) const LAB: &[&str] =
    &["name", "nodes", "switches", "links", "routing", "multipath", "neighbours", "addressing", "expect"];
pub(super) const NODE: &[&str] =
    &["role", "forward", "loopback", "interfaces", "addresses", "sysctls", "routes", "nat", "uplink"];
pub(super) const NAT: &[&str] = &["masquerade", "snat", "dnat", "floating", "publish"];
pub(super) const SOURCE: &[&str] = &["out", "from", "to"];
pub(super) const SWITCH: &[&str] = &["nodes", "ipv4", "ipv6", "mtu", "cost"];
pub(super) const LINK: &[&str] = &["endpoints", "ipv4", "ipv6", "mac", "mtu", "cost"];
pub(super) const ADDRESSING: &[&str] = &["ipv4", "ipv6", "mode"];

/// Reads a topology file; what cannot be read is missing in the document, and a problem.
pub(crate) fn read(source: &SourceFile) -> (LabDoc, Vec<Problem>) {
    let mut problems = Vec::new();
    let doc = tree::parse(source.text(), &mut problems).and_then(|root| lab(&root, &mut problems));
    (doc.unwrap_or_default(), problems)
}

fn lab(root: &Value, problems: &mut Vec<Problem>) -> Option<LabDoc> {
    let Kind::Map(entries) = &root.kind else {
        let message = "a topology file is a mapping of `key: value`";
        problems.push(
            Problem::error("bad-type", Some(root.span), message)
                .help("begin as in `links:`, with `  - home -- near` below it"),
        );
        return None;
    };
    let mut fields = Fields::of("a topology", entries, LAB);
    let mut text = |fields: &mut Fields<'_>, key| fields.take(key).and_then(|value| value.text(key, problems));
    let mut doc = LabDoc {
        name: text(&mut fields, "name"),
        routing: text(&mut fields, "routing"),
        multipath: text(&mut fields, "multipath"),
        neighbours: text(&mut fields, "neighbours"),
        hand_written: true,
        ..LabDoc::default()
    };
    if let Some(value) = fields.take("addressing") {
        doc.addressing = addressing(value, problems);
    }
    match fields.take("nodes") {
        Some(value) => doc.nodes = nodes(value, problems),
        None => doc.implicit_nodes = true,
    }
    if let Some(entries) =
        fields.take("switches").and_then(|value| value.map_as("switches", "switches: { floor: [ann, bob] }", problems))
    {
        doc.switches = entries.iter().map(|(name, value)| switch(name, value, problems)).collect();
    }
    if let Some(value) = fields.take("links") {
        // One without its `- ` names nodes as well as the others.
        let list = value.list("links", problems).unwrap_or_else(|| match value.kind {
            Kind::Scalar(_) => std::slice::from_ref(value),
            _ => &[],
        });
        for value in list {
            link(value, &mut doc.links, problems);
        }
    }
    if let Some(value) = fields.take("expect") {
        doc.expect = value.texts("expect", problems);
    }
    fields.finish(problems);
    Some(doc)
}

fn addressing(value: &Value, problems: &mut Vec<Problem>) -> AddressingDoc {
    let Some(entries) = value.map("addressing", problems) else { return AddressingDoc::default() };
    let mut fields = Fields::of("`addressing`", entries, ADDRESSING);
    let mut text = |key| fields.take(key).and_then(|value| value.text(key, problems));
    let doc = AddressingDoc { ipv4: text("ipv4"), ipv6: text("ipv6"), mode: text("mode") };
    fields.finish(problems);
    doc
}

/// A mapping of names to settings, or a list of names.
fn nodes(value: &Value, problems: &mut Vec<Problem>) -> Vec<NodeDoc> {
    match &value.kind {
        Kind::Map(entries) => entries.iter().map(|(name, value)| node(name, value, problems)).collect(),
        Kind::List(list) => {
            let mut docs = Vec::new();
            for value in list {
                if let Kind::Map(entries) = &value.kind {
                    let message = "a node in a list is a name alone; this one has settings";
                    problems.push(
                        Problem::error("bad-type", Some(value.span), message)
                            .help("write all of `nodes` without `- `, as in `home:` with settings below it"),
                    );
                    docs.extend(entries.iter().map(|(name, value)| node(name, value, problems)));
                } else {
                    let name = value.text("nodes", problems);
                    docs.extend(name.map(|name| NodeDoc { name, ..NodeDoc::default() }));
                }
            }
            docs
        }
        _ => {
            let message = "`nodes` is one value; a mapping of names, or a list of them, is wanted";
            problems.push(Problem::error("bad-type", Some(value.span), message));
            Vec::new()
        }
    }
}

fn node(name: &Spanned<String>, value: &Value, problems: &mut Vec<Problem>) -> NodeDoc {
    let mut doc = NodeDoc { name: name.clone(), ..NodeDoc::default() };
    let Some(entries) = value.map(&name.value, problems) else { return doc };
    let mut fields = Fields::of("a node", entries, NODE);
    doc.role = fields.take("role").and_then(|value| value.text("role", problems));
    doc.forward = fields.take("forward").and_then(|value| value.boolean("forward", problems));
    doc.loopback = fields.take("loopback").map(|value| value.texts("loopback", problems)).unwrap_or_default();
    doc.interfaces = fields.take("interfaces").map(|value| value.texts("interfaces", problems)).unwrap_or_default();
    doc.routes = fields.take("routes").map(|value| value.texts("routes", problems)).unwrap_or_default();
    let addresses = fields
        .take("addresses")
        .and_then(|value| value.map_as("addresses", "addresses: { eth0: 10.0.0.1/24 }", problems));
    for (iface, value) in addresses.unwrap_or_default() {
        let addresses = value.texts(&iface.value, problems);
        doc.addresses.extend(addresses.into_iter().map(|address| (iface.clone(), address)));
    }
    let sysctls = fields.take("sysctls").and_then(|value| value.map("sysctls", problems));
    for (key, value) in sysctls.unwrap_or_default() {
        doc.sysctls.extend(value.text(&key.value, problems).map(|value| (key.clone(), value)));
    }
    doc.uplink = fields.take("uplink").and_then(|value| value.boolean("uplink", problems));
    if let Some(value) = fields.take("nat") {
        doc.nat = nat(value, problems);
    }
    fields.finish(problems);
    doc
}

fn nat(value: &Value, problems: &mut Vec<Problem>) -> NatDoc {
    let mut doc = NatDoc { span: Some(value.span), ..NatDoc::default() };
    let Some(entries) = value.map("nat", problems) else { return doc };
    let mut fields = Fields::of("`nat`", entries, NAT);
    let mut sources = |key, fields: &mut Fields<'_>| {
        let list = fields.take(key).map(Value::one_or_list).unwrap_or_default();
        list.iter().filter_map(|value| nat_source(key, value, problems)).collect()
    };
    doc.masquerade = sources("masquerade", &mut fields);
    doc.snat = sources("snat", &mut fields);
    let mut pairs = |key| {
        let entries = fields.take(key).and_then(|value| value.map(key, problems)).unwrap_or_default();
        let pair = |(from, to): &(Spanned<String>, Value)| Some((from.clone(), to.text(&from.value, problems)?));
        entries.iter().filter_map(pair).collect()
    };
    doc.dnat = pairs("dnat");
    doc.floating = pairs("floating");
    doc.publish = pairs("publish");
    fields.finish(problems);
    doc
}

/// The name of an interface, or a mapping with more to say.
fn nat_source(key: &'static str, value: &Value, problems: &mut Vec<Problem>) -> Option<NatSourceDoc> {
    let mut doc = NatSourceDoc { span: Some(value.span), ..NatSourceDoc::default() };
    let Kind::Map(entries) = &value.kind else {
        doc.out = Some(value.text(key, problems)?);
        return Some(doc);
    };
    let mut fields = Fields::of("a source", entries, SOURCE);
    let mut text = |key| fields.take(key).and_then(|value| value.text(key, problems));
    (doc.out, doc.from, doc.to) = (text("out"), text("from"), text("to"));
    fields.finish(problems);
    Some(doc)
}

/// Settings, or only a list of members.
fn switch(name: &Spanned<String>, value: &Value, problems: &mut Vec<Problem>) -> SwitchDoc {
    let mut doc = SwitchDoc { name: name.clone(), ..SwitchDoc::default() };
    if let Kind::List(list) = &value.kind {
        doc.members = ends(list, "nodes", problems);
        return doc;
    }
    let Some(entries) = value.map(&name.value, problems) else { return doc };
    let mut fields = Fields::of("a switch", entries, SWITCH);
    if let Some(value) = fields.take("nodes") {
        doc.members = ends(value.one_or_list(), "nodes", problems);
    }
    doc.ipv4 = fields.take("ipv4").and_then(|value| value.text("ipv4", problems));
    doc.ipv6 = fields.take("ipv6").and_then(|value| value.text("ipv6", problems));
    doc.mtu = fields.take("mtu").and_then(|value| value.number("mtu", problems));
    doc.cost = fields.take("cost").and_then(|value| value.number("cost", problems));
    fields.finish(problems);
    doc
}

/// A chain of names, which is a link or several, or a mapping with more to say of one.
fn link(value: &Value, links: &mut Vec<LinkDoc>, problems: &mut Vec<Problem>) {
    let Kind::Map(entries) = &value.kind else {
        let Kind::Scalar(scalar) = &value.kind else {
            let message = format!("a link is {}; names as in `home -- near`, or a mapping, are wanted", value.what());
            problems.push(
                Problem::error("bad-type", Some(value.span), message)
                    .help("a mapping begins as in `- endpoints: [home, near]`"),
            );
            return;
        };
        let (text, start) = (&scalar.text, scalar.start);
        let before = problems.len();
        let line = Line::read(text, start, Some(value.span), problems);
        if line.ends.len() < 2 && problems.len() == before {
            let message = format!("`{text}` is no link");
            problems.push(Problem::error("bad-link", Some(value.span), message).help("write it as in `home -- near`"));
        }
        links.extend(line.links());
        return;
    };
    let mut fields = Fields::of("a link", entries, LINK);
    let endpoints = fields.take("endpoints");
    let mut doc = LinkDoc { span: Some(value.span), ..LinkDoc::default() };
    doc.ipv4 = fields.take("ipv4").and_then(|value| family("ipv4", value, problems));
    doc.ipv6 = fields.take("ipv6").and_then(|value| family("ipv6", value, problems));
    doc.mac = fields.take("mac").map(|value| value.texts("mac", problems)).unwrap_or_default();
    doc.mtu = fields.take("mtu").and_then(|value| value.number("mtu", problems));
    doc.cost = fields.take("cost").and_then(|value| value.number("cost", problems));
    fields.finish(problems);

    let Some(endpoints) = endpoints else {
        let message = "the link has no `endpoints`";
        problems.push(
            Problem::error("bad-link", Some(value.span), message)
                .help("say what it joins, as in `endpoints: [home, near]`"),
        );
        return;
    };
    doc.span = Some(endpoints.span);
    let found = ends(endpoints.one_or_list(), "endpoints", problems);
    let count = found.len();
    if let Ok(pair) = <[EndDoc; 2]>::try_from(found) {
        doc.ends = pair;
        links.push(doc);
    } else {
        let message = format!("`endpoints` has {count} {}; a link has two", if count == 1 { "end" } else { "ends" });
        problems.push(
            Problem::error("bad-link", Some(endpoints.span), message)
                .help("write two, as in `[home, near:eth1]`; a switch joins more"),
        );
    }
}

/// One text is a prefix or `none`; a list has the address of each end.
fn family(key: &str, value: &Value, problems: &mut Vec<Problem>) -> Option<FamilyDoc> {
    match &value.kind {
        Kind::List(_) => Some(FamilyDoc::Each(value.texts(key, problems))),
        _ => value.text(key, problems).map(FamilyDoc::Prefix),
    }
}

fn ends(values: &[Value], key: &str, problems: &mut Vec<Problem>) -> Vec<EndDoc> {
    let read = |value: &Value| {
        let (text, start) = value.text_and_start(key, problems)?;
        Some(links::end(text, start, Some(value.span)))
    };
    values.iter().filter_map(read).collect()
}
