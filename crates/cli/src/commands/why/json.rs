//! The same for programs.

use std::net::IpAddr;

use hopyard::explain::{End, Hop, Outcome, Walk};
use hopyard::kernel::RouteAnswer;
use hopyard::net::{IfName, NsName};
use hopyard::runtime::why::Report;
use serde::Serialize;

use super::file::FileEdit;
use super::scene::Scene;
use super::words;
use crate::error::CliError;
use crate::ui::Ui;

/// Grows when something changes its meaning.
const VERSION: u32 = 1;

#[derive(Serialize)]
struct Object<'a> {
    v: u32,
    query: Query<'a>,
    /// `null`: not known.
    reachable: Option<bool>,
    verdict: Verdict<'a>,
    there: Vec<JsonHop<'a>>,
    /// What is only computed, where the packet does not arrive.
    back: Vec<JsonHop<'a>>,
    back_is_hypothetical: bool,
    fix: Option<Fix<'a>>,
    disagreements: Vec<String>,
}

#[derive(Serialize)]
struct Query<'a> {
    src: &'a NsName,
    dst: IpAddr,
    dst_node: Option<&'a NsName>,
    proto: &'static str,
    port: Option<u16>,
}

#[derive(Serialize)]
struct Verdict<'a> {
    direction: Option<&'static str>,
    node: Option<&'a NsName>,
    reason: Option<&'static str>,
    text: String,
    /// `seen`: a packet did as the model says; `computed`: none was sent; `contradicted`.
    confidence: &'static str,
}

#[derive(Serialize)]
struct JsonHop<'a> {
    n: usize,
    node: &'a NsName,
    #[serde(rename = "in")]
    input: Option<IfName>,
    out: Option<IfName>,
    route: Option<Route>,
    ttl: u8,
    delivered: bool,
    drop: Option<Drop>,
    evidence: Evidence,
}

#[derive(Serialize)]
struct Route {
    dst: String,
    via: Option<IpAddr>,
    table: u32,
}

#[derive(Serialize)]
struct Drop {
    reason: &'static str,
    text: String,
}

#[derive(Serialize)]
struct Evidence {
    model: &'static str,
    /// `null`: not asked.
    kernel: Option<String>,
    /// `null`: no probe was sent.
    seen: Option<JsonSeen>,
}

/// Hops left of the packet (on the way back: its answer) as it came in and went out.
#[derive(Serialize)]
struct JsonSeen {
    #[serde(rename = "in")]
    came: Option<u8>,
    #[serde(rename = "out")]
    went: Option<u8>,
    /// The ICMP error that the node sent about it: type and code.
    icmp: Option<(u8, u8)>,
}

#[derive(Serialize)]
struct Fix<'a> {
    cost: u32,
    verified: &'static str,
    edits: Vec<JsonEdit<'a>>,
}

#[derive(Serialize)]
struct JsonEdit<'a> {
    node: &'a NsName,
    cmd: String,
    declared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileEdit>,
}

pub(super) fn print(ui: &mut Ui, report: &Report, scene: &Scene) -> Result<(), CliError> {
    let packet = &report.query.packet;
    let trouble = report.verdict.trouble();
    let object = Object {
        v: VERSION,
        query: Query {
            src: &report.query.from,
            dst: packet.dst,
            dst_node: report.owner.as_ref(),
            proto: packet.protocol.name(),
            port: Some(packet.destination_port).filter(|port| *port != 0),
        },
        reachable: match report.outcome() {
            _ if !report.disagreements.is_empty() => None,
            Outcome::Yes => Some(true),
            Outcome::No => Some(false),
            Outcome::Undecided => None,
        },
        verdict: Verdict {
            direction: trouble.as_ref().map(|trouble| if trouble.back { "back" } else { "there" }),
            node: trouble.as_ref().map(|trouble| &trouble.node),
            reason: trouble.as_ref().map(hopyard::explain::Trouble::code),
            text: words::verdict(report),
            confidence: match &report.seen {
                _ if !report.disagreements.is_empty() => "contradicted",
                Some(_) => "seen",
                None => "computed",
            },
        },
        there: hops(report, &report.verdict.there, false),
        back: report.verdict.back.as_ref().map_or_else(Vec::new, |back| hops(report, back, true)),
        back_is_hypothetical: !report.verdict.there.arrives(),
        fix: report.repair.as_ref().map(|repair| Fix {
            cost: repair.cost,
            verified: "model",
            edits: repair
                .stages
                .iter()
                .flat_map(|stage| &stage.edits)
                .map(|(edit, declared)| JsonEdit {
                    node: edit.node(),
                    cmd: scene.command(edit),
                    declared: *declared,
                    file: scene.file.as_ref().filter(|_| !declared).and_then(|file| file.edit(edit)),
                })
                .collect(),
        }),
        disagreements: report.disagreements.iter().map(words::contradiction).collect(),
    };
    let text = serde_json::to_string_pretty(&object).map_err(|error| CliError::failure(error.to_string()))?;
    ui.line(text)
}

fn hops<'a>(report: &Report, walk: &'a Walk, back: bool) -> Vec<JsonHop<'a>> {
    walk.hops.iter().enumerate().map(|(at, hop)| json_hop(report, hop, back, at)).collect()
}

fn json_hop<'a>(report: &Report, hop: &'a Hop, back: bool, at: usize) -> JsonHop<'a> {
    let code = match &hop.end {
        Some(End::Dropped(reason)) => Some(reason.code(back)),
        _ => None,
    };
    let asked = report.asked.iter().find(|it| it.back == back && it.hop == at);
    JsonHop {
        n: at + 1,
        node: &hop.node,
        input: hop.input,
        out: hop.next.as_ref().map(|next| next.dev),
        route: hop.route.as_ref().map(|route| Route {
            dst: route.key.prefix.to_string(),
            via: hop.next.as_ref().and_then(|next| next.via),
            table: route.key.table,
        }),
        ttl: hop.ttl,
        delivered: hop.end == Some(End::Delivered),
        drop: code.map(|reason| Drop { reason, text: words::decision(hop) }),
        evidence: Evidence {
            model: code.unwrap_or(if hop.end.is_some() { "local" } else { "forward" }),
            kernel: asked.map(|asked| match &asked.answer {
                RouteAnswer::Refused(errno) => errno.name().map_or_else(|| errno.to_string(), ToOwned::to_owned),
                RouteAnswer::Local | RouteAnswer::On { .. } | RouteAnswer::Other => "ok".to_owned(),
            }),
            seen: report.seen.as_ref().map(|seen| {
                let here = seen.at(&hop.node);
                let (passing, icmp) =
                    if back { (here.reply, here.complained_back) } else { (here.packet, here.complained) };
                JsonSeen { came: passing.came, went: passing.went, icmp }
            }),
        },
    }
}
