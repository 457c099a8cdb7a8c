//! Names: questions of the sandbox, and what waits for an answer to decide.

use std::io;
use std::time::Instant;

use hopyard_kernel::agent::Found;

use super::{Ends, MOST_PARKED, Parked, Relay};
use crate::sandbox::dns::Question;
use crate::sandbox::policy::Answer;
use crate::sandbox::record::{Attempt, Outcome};

/// As it is noted: for a terminal.
fn look_up(question: &Question) -> Attempt {
    Attempt::LookUp(question.name.escape_debug().to_string())
}

fn outcome(found: &Found) -> Outcome {
    match found {
        Found::Addresses(_) => Outcome::Found,
        Found::Nothing => Outcome::NoSuchName,
        Found::Failed(_) => Outcome::LookUpFailed,
    }
}

/// Where addresses have names (RFC 1035, section 3.5; RFC 3596, section 2.5).
const REVERSE: [&str; 2] = [".in-addr.arpa", ".ip6.arpa"];

impl Relay {
    pub(super) fn question(&mut self, ends: Ends, question: Question) {
        // Which name an address has is asked by the way, by ping for instance. Nobody is reached by it.
        if REVERSE.iter().any(|domain| question.name.ends_with(domain)) {
            return self.reply(ends, question.answer(None));
        }
        let answer = self.tools.policy.answer(&question.name, Instant::now());
        if self.tools.records {
            let allowed = match &answer {
                Answer::Denied => false,
                Answer::LookUp(_) => true,
                Answer::Known(found) => !self.stands_in(found),
            };
            let attempt = look_up(&question);
            self.record.note(attempt.clone(), allowed);
            if allowed && let Answer::Known(found) = &answer {
                self.record.answered(&attempt, outcome(found));
            }
        }
        match answer {
            Answer::Known(found) => self.reply(ends, question.answer(Some(&found))),
            Answer::Denied => self.reply(ends, question.answer(None)),
            Answer::LookUp(number) => {
                let waiting = self.questions.entry(number).or_default();
                if waiting.len() < MOST_PARKED {
                    waiting.push((ends, question));
                }
                self.look_up(number);
            }
        }
    }

    pub(super) fn stands_in(&self, found: &Found) -> bool {
        match found {
            Found::Addresses(addresses) => addresses.iter().any(|&addr| self.tools.policy.stand_in(addr).is_some()),
            _ => false,
        }
    }

    pub(super) fn reply(&self, (from, to): Ends, answer: Option<Vec<u8>>) {
        if let Some(answer) = answer {
            self.tools.gate.send(to, from, &answer).ok();
        }
    }

    pub(super) fn look_up(&mut self, number: u32) {
        let Some(name) = self.tools.policy.begin_look_up(number) else { return };
        if self.tools.outside.look_up(number, name).is_err() {
            let failed = Found::Failed("too many names at once".to_owned());
            self.found(number, &failed);
        }
    }

    pub(super) fn take_names(&mut self) -> io::Result<()> {
        while let Some((number, found)) = self.tools.outside.answer()? {
            self.found(number, &found);
        }
        Ok(())
    }

    pub(super) fn found(&mut self, number: u32, found: &Found) {
        self.tools.policy.found(number, found.clone(), Instant::now());
        for (ends, question) in self.questions.remove(&number).unwrap_or_default() {
            if self.tools.records {
                self.record.answered(&look_up(&question), outcome(found));
            }
            self.reply(ends, question.answer(Some(found)));
        }
        // What still does not know enough parks itself again.
        for parked in std::mem::take(&mut self.parked) {
            match parked {
                Parked::Request(ends, request) => self.consider(ends, request),
                Parked::Datagram(ends, payload) => self.datagram(ends, &payload),
                Parked::Echo(request) => self.echo(request),
            }
        }
    }

    pub(super) fn park(&mut self, what: Parked, names: &[u32]) {
        if self.parked.len() < MOST_PARKED {
            self.parked.push(what);
        }
        for &number in names {
            self.look_up(number);
        }
    }
}
