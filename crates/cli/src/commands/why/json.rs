//! The same for programs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::IpAddr;

use hopyard::explain::{Code, End, Hop, Outcome, Walk};
use hopyard::kernel::RouteAnswer;
use hopyard::kernel::nftables::{Decided, TraceStep};
use hopyard::net::{IfName, MacAddr, NsName};
use hopyard::runtime::why::{Report, Traced};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;

use super::file::FileEdit;
use super::scene::{ExpectLine, Scene};
use super::words;
use crate::error::CliError;
use crate::ui::Ui;

/// Grows when something changes its meaning.
const VERSION: u32 = 1;

/// Why one node does not reach another: what `hop why --json` prints.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Object<'a> {
    /// The version of this form; grows when something changes its meaning. What is added later does not.
    v: u32,
    /// What was asked.
    query: Query<'a>,
    /// `null`: not known, or the evidence contradicts itself.
    reachable: Option<bool>,
    /// What it comes to.
    verdict: Verdict<'a>,
    /// The way of the packet.
    there: Vec<JsonHop<'a>>,
    /// The way of the answer; if the packet does not arrive, what it would be.
    back: Vec<JsonHop<'a>>,
    /// The packet does not arrive, so `back` is only computed.
    back_is_hypothetical: bool,
    /// What makes it work; `null`: nothing is wrong, nothing was found, or `forbidden` says why.
    fix: Option<Fix<'a>>,
    /// The line of `expect` in the lab's file that says that the packet shall not come through; `null`: none.
    forbidden: Option<JsonLine<'a>>,
    /// Does the packet come through, whether or not something waits for it? `null`: not known.
    comes_through: Option<bool>,
    /// The lines that forbid what the changes that were found would let through as well. Unless a line says that this packet
    /// shall be answered, these changes are left out of `fix`.
    would_break: Vec<JsonLine<'a>>,
    /// Where the evidence contradicts itself, in words. Not empty: the exit status is 3.
    disagreements: Vec<String>,
    /// Why the kernel does not say for which reasons it dropped packets, in words: for that hop has to be root, on a
    /// kernel with BPF and BTF. `null`: it does, or no probe was sent.
    no_drop_reasons: Option<String>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Query<'a> {
    /// The node that sends.
    #[schemars(with = "String")]
    src: &'a NsName,
    /// The address to which it sends.
    #[schemars(with = "String")]
    dst: IpAddr,
    /// The node that has the address; `null`: none has.
    #[schemars(with = "Option<String>")]
    dst_node: Option<&'a NsName>,
    /// `icmp`, `tcp` or `udp`.
    #[schemars(extend("enum" = ["icmp", "tcp", "udp"]))]
    proto: &'static str,
    /// Of TCP and UDP.
    port: Option<u16>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Verdict<'a> {
    /// On which way the first trouble is; `null`: there is none.
    #[schemars(extend("enum" = ["there", "back", null]))]
    direction: Option<&'static str>,
    /// At which node.
    #[schemars(with = "Option<String>")]
    node: Option<&'a NsName>,
    /// Which trouble.
    reason: Option<ReasonCode>,
    /// The same in words, which may change.
    text: String,
    #[schemars(extend("enum" = ["seen", "computed", "contradicted"]))]
    /// `seen`: a packet did as the model says; `computed`: none was sent; `contradicted`.
    confidence: &'static str,
}

/// A line of `expect`.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonLine<'a> {
    /// As `guest -x-> db`.
    expect: &'a str,
    /// The file's name, without directories; `null`: it came from none, or that says something else by now.
    file: Option<&'a str>,
    /// The line in the file.
    line: Option<usize>,
}

/// From where to where.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Ends {
    #[schemars(with = "Option<String>")]
    src: Option<IpAddr>,
    #[schemars(with = "String")]
    dst: IpAddr,
    /// The port that it goes to.
    port: Option<u16>,
}

/// What one node does with the packet.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonHop<'a> {
    /// Its place on the way, from 1.
    n: usize,
    #[schemars(with = "String")]
    node: &'a NsName,
    /// The interface by which it comes in; `null`: it begins here.
    #[serde(rename = "in")]
    #[schemars(with = "Option<String>")]
    input: Option<IfName>,
    /// The interface by which it goes on, or would.
    #[schemars(with = "Option<String>")]
    out: Option<IfName>,
    /// The route that decides.
    route: Option<Route>,
    /// As what it leaves, where the node translates its addresses.
    translated: Option<Ends>,
    /// What is left of its hops when it leaves, or ends here.
    ttl: u8,
    /// It ends here, as it should.
    delivered: bool,
    /// It ends here, and should not.
    drop: Option<Drop>,
    evidence: Evidence,
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Route {
    /// The destination, as a prefix.
    dst: String,
    /// The next hop; `null`: the destination itself.
    #[schemars(with = "Option<String>")]
    via: Option<IpAddr>,
    /// The number of the table: 254 is `main`, 255 `local`.
    table: u32,
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Drop {
    reason: ReasonCode,
    /// The same in words, which may change.
    text: String,
}

/// How it is known what the node does.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Evidence {
    /// Computed: `forward`, `local`, or the reason why it ends.
    model: &'static str,
    /// Asked: `ok`, or the error with which the node's kernel refuses it. `null`: not asked.
    kernel: Option<String>,
    /// `null`: no probe was sent.
    seen: Option<JsonSeen>,
}

/// Hops left of the packet (on the way back: its answer) as it came in and went out.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonSeen {
    #[serde(rename = "in")]
    came: Option<u8>,
    #[serde(rename = "out")]
    went: Option<u8>,
    /// The ICMP error that the node sent about it: type and code.
    icmp: Option<(u8, u8)>,
    /// What the node counted meanwhile of packets that it did not send on, by the kernel's names: of this packet, or
    /// of others. `null`: nobody looked, as the packet was not expected here.
    counters: Option<BTreeMap<String, u64>>,
    /// The neighbours that the node asked for meanwhile.
    asked: Vec<JsonAsked>,
    /// What the rules of nftables in the node decided, in order: about the packet, its answer, and ICMP errors that quote
    /// one of them. `null`: they were not traced, as the node has no rules, or as `untraced` says.
    trace: Option<Vec<JsonTrace>>,
    /// Why not, in words, where there are rules.
    untraced: Option<String>,
    /// What of them the node dropped, with the kernel's word for why, which is not the same in all kernels. `null`: as
    /// `no_drop_reasons` says.
    drops: Option<Vec<JsonDropped>>,
}

/// What a rule, or the policy of a chain, decided.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonTrace {
    /// About which packet.
    #[schemars(extend("enum" = PARTS))]
    of: &'static str,
    /// The family of the table.
    family: String,
    table: String,
    chain: String,
    /// The handle of the rule, as `nft -a` shows it; `null`: the policy of the chain.
    rule: Option<u64>,
    /// `continue`: nothing, it goes on here or in another chain; `taken`: it is handed to a program, or taken away.
    #[schemars(extend("enum" = ["accept", "drop", "continue", "taken"]))]
    verdict: &'static str,
}

/// A packet that was dropped.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonDropped {
    /// Which packet.
    #[schemars(extend("enum" = PARTS))]
    of: &'static str,
    /// Why, as the kernel calls it.
    reason: String,
}

/// The packet that was sent, the answer to it, an ICMP error about one of them.
const PARTS: [&str; 3] = ["packet", "reply", "error"];

/// A question who has an address, by ARP or neighbour discovery.
#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonAsked {
    /// Who was asked for.
    #[schemars(with = "String")]
    address: IpAddr,
    /// How often.
    times: u32,
    /// The Ethernet addresses of those that answered.
    #[schemars(with = "Vec<String>")]
    answers: Vec<MacAddr>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct Fix<'a> {
    /// Less is better; 2 for an ordinary change.
    cost: u32,
    /// How it is known to help: `model`, it was computed.
    verified: &'static str,
    /// The changes, in the order in which their need shows.
    edits: Vec<JsonEdit<'a>>,
    /// Of `pmtud-blackhole`, another way out: senders are told what fits.
    #[serde(skip_serializing_if = "Option::is_none")]
    told: Option<JsonEdit<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
struct JsonEdit<'a> {
    #[schemars(with = "String")]
    node: &'a NsName,
    /// The command: of a lab, to type in the node; else from where hop was.
    cmd: String,
    /// The same as it is typed where hop runs; `null`: the network is not here.
    here: Option<String>,
    /// It restores what the file declares.
    declared: bool,
    /// What to write into the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<FileEdit>,
}

/// The name of a reason.
#[derive(Serialize)]
#[serde(transparent)]
struct ReasonCode(&'static str);

impl From<Code> for ReasonCode {
    fn from(code: Code) -> Self {
        ReasonCode(code.as_str())
    }
}

impl JsonSchema for ReasonCode {
    fn schema_name() -> Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names: Vec<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        json_schema!({
            "type": "string",
            "description": "Why a packet ends where it should not. Names do not change; a later version may have more.",
            "enum": names,
        })
    }
}

/// The JSON Schema (draft 2020-12) of what is printed.
pub(in crate::commands) fn schema() -> Result<String, CliError> {
    let mut schema = schemars::schema_for!(Object<'static>);
    schema.insert("title".to_owned(), "hop why --json".into());
    serde_json::to_string_pretty(&schema).map_err(|error| CliError::failure(error.to_string()))
}

pub(super) fn print(ui: &mut Ui, report: &Report, scene: &Scene) -> Result<(), CliError> {
    let packet = &report.query.packet;
    let trouble = report.trouble();
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
            reason: trouble.as_ref().map(|trouble| trouble.reason.kind(trouble.back).into()),
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
                    here: scene.command_here(edit),
                    declared: *declared,
                    file: scene.file.as_ref().filter(|_| !declared).and_then(|file| file.edit(edit)),
                })
                .collect(),
            told: repair.told.as_ref().map(|edit| JsonEdit {
                node: edit.node(),
                cmd: scene.command(edit),
                here: scene.command_here(edit),
                declared: false,
                file: None,
            }),
        }),
        forbidden: report.forbidden.by.and_then(|at| line(scene, at)),
        comes_through: report.comes_through(),
        would_break: report.forbidden.spoilt.iter().filter_map(|at| line(scene, *at)).collect(),
        disagreements: report.disagreements.iter().map(|it| words::contradiction(report, it)).collect(),
        no_drop_reasons: report.seen.as_ref().and_then(|seen| seen.no_reasons.as_ref()).map(ToString::to_string),
    };
    ui.json(&object)
}

fn line(scene: &Scene, at: usize) -> Option<JsonLine<'_>> {
    let ExpectLine { file, line, words, .. } = scene.expect.get(&at)?;
    Some(JsonLine { expect: words, file: file.as_deref(), line: *line })
}

fn hops<'a>(report: &Report, walk: &'a Walk, back: bool) -> Vec<JsonHop<'a>> {
    walk.hops.iter().enumerate().map(|(at, hop)| json_hop(report, hop, back, at)).collect()
}

fn json_hop<'a>(report: &Report, hop: &'a Hop, back: bool, at: usize) -> JsonHop<'a> {
    let code = match &hop.end {
        Some(End::Dropped(reason)) => Some(reason.kind(back)),
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
        translated: words::translation(hop).is_some().then(|| Ends {
            src: hop.sent.src,
            dst: hop.sent.dst,
            port: Some(hop.sent.destination_port).filter(|port| *port != 0),
        }),
        ttl: hop.ttl,
        delivered: hop.end == Some(End::Delivered),
        drop: code.map(|code| Drop { reason: code.into(), text: words::decision(hop) }),
        evidence: Evidence {
            model: code.map_or(if hop.end.is_some() { "local" } else { "forward" }, Code::as_str),
            kernel: asked.map(|asked| match &asked.answer {
                RouteAnswer::Refused(errno) => errno.name().map_or_else(|| errno.to_string(), ToOwned::to_owned),
                RouteAnswer::Local | RouteAnswer::On { .. } | RouteAnswer::Other => "ok".to_owned(),
            }),
            seen: report.seen.as_ref().map(|seen| {
                let here = seen.at(&hop.node);
                let (passing, icmp) =
                    if back { (here.reply, here.complained_back) } else { (here.packet, here.complained) };
                let asked = here.asked.into_iter().map(|(address, asking)| JsonAsked {
                    address,
                    times: asking.times,
                    answers: asking.answers.into_iter().collect(),
                });
                let (counters, asked) = (here.counters, asked.collect());
                let (trace, untraced) = match here.traced {
                    Traced::Not => (None, None),
                    Traced::Refused(error) => (None, Some(error.to_string())),
                    Traced::Told { steps, .. } => (Some(steps.into_iter().map(traced).collect()), None),
                };
                let lost = here.lost.into_iter().map(|lost| JsonDropped { of: lost.part.name(), reason: lost.reason });
                let drops = seen.no_reasons.is_none().then(|| lost.collect());
                let (came, went) = (passing.came, passing.went);
                JsonSeen { came, went, icmp, counters, asked, trace, untraced, drops }
            }),
        },
    }
}

fn traced(step: TraceStep) -> JsonTrace {
    let TraceStep { part, family, table, chain, rule, decided } = step;
    let verdict = match decided {
        Decided::Accept => "accept",
        Decided::Drop => "drop",
        Decided::On => "continue",
        Decided::Taken => "taken",
    };
    JsonTrace { of: part.name(), family, table, chain, rule, verdict }
}
