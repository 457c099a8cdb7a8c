//! What a plan does to who reaches whom.

use std::collections::BTreeMap;

use hopyard::net::{Family, NsName};
use hopyard::runtime::effect::{Effect, MOST_NODES, NotSaid, Pair};
use serde::Serialize;

use crate::commands::up::count;
use crate::ui::Ui;

/// So many pairs are named.
const NAMED: usize = 4;

/// `this change cuts 14 pairs: a -> b, a -> c, b -> a, b -> c (10 more)`.
pub(super) fn tell(ui: &mut Ui, effect: &Result<Effect, NotSaid>) {
    match effect {
        Ok(effect) => {
            for (verb, pairs) in [("cuts", &effect.cuts), ("joins", &effect.joins)] {
                if !pairs.is_empty() {
                    ui.note(format_args!("this change {verb} {}", list(pairs, effect.families.len() > 1)));
                }
            }
            if effect.unknown > 0 {
                let pairs = count(effect.unknown, "pair", "pairs");
                ui.note(format_args!("not known of {pairs} whether it cuts or joins them; `hop check` tries them"));
            }
        }
        Err(NotSaid::NotRunning) => {}
        Err(NotSaid::TooLarge) => {
            ui.note(format_args!("which pairs this change cuts or joins is not said for more than {MOST_NODES} nodes"));
        }
        Err(NotSaid::Translation) => {
            ui.note(
                "which pairs this change cuts or joins is not known, because addresses are translated (nat) otherwise",
            );
        }
    }
}

/// `both`: the pairs have two families, so that it matters which one it is.
fn list(pairs: &[Pair], both: bool) -> String {
    // A pair in both families is one.
    let mut families: BTreeMap<(&NsName, &NsName), Vec<Family>> = BTreeMap::new();
    for pair in pairs {
        families.entry((&pair.from, &pair.to)).or_default().push(pair.family);
    }
    let name = |((from, to), families): (&(&NsName, &NsName), &Vec<Family>)| match families.as_slice() {
        [Family::Ipv4] if both => format!("{from} -> {to} (IPv4)"),
        [Family::Ipv6] if both => format!("{from} -> {to} (IPv6)"),
        _ => format!("{from} -> {to}"),
    };
    let names: Vec<String> = families.iter().take(NAMED).map(name).collect();
    let more = families.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" ({more} more)") };
    format!("{}: {}{more}", count(families.len(), "pair", "pairs"), names.join(", "))
}

/// Grows when something changes its meaning.
const VERSION: u32 = 1;

/// The plan and its effect, for programs.
#[derive(Serialize)]
pub(super) struct Object<'a> {
    v: u32,
    steps: &'a [serde_json::Value],
    /// `null`: not known.
    cuts: Option<Vec<JsonPair<'a>>>,
    joins: Option<Vec<JsonPair<'a>>>,
    unknown: Option<usize>,
    /// Why it is not said.
    not_said: Option<&'static str>,
}

#[derive(Serialize)]
struct JsonPair<'a> {
    from: &'a NsName,
    to: &'a NsName,
    family: &'static str,
}

impl<'a> Object<'a> {
    pub(super) fn new(steps: &'a [serde_json::Value], effect: &'a Result<Effect, NotSaid>) -> Self {
        let pair = |pair: &'a Pair| JsonPair {
            from: &pair.from,
            to: &pair.to,
            family: if pair.family == Family::Ipv4 { "ipv4" } else { "ipv6" },
        };
        let said = effect.as_ref().ok();
        Object {
            v: VERSION,
            steps,
            cuts: said.map(|effect| effect.cuts.iter().map(pair).collect()),
            joins: said.map(|effect| effect.joins.iter().map(pair).collect()),
            unknown: said.map(|effect| effect.unknown),
            not_said: effect.as_ref().err().map(|why| match why {
                NotSaid::NotRunning => "not-running",
                NotSaid::TooLarge => "too-large",
                NotSaid::Translation => "translation",
            }),
        }
    }
}
