//! Names: questions of the sandbox, and what waits for an answer to decide.

use std::io;
use std::net::IpAddr;
use std::time::Instant;

use hopyard_kernel::agent::Found;

use super::{Ends, MOST_PARKED, MOST_UNASKED, Parked, Relay, Waiting};
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

    /// Has a name looked up, or wait until there is room for it. `false`: too many wait already.
    pub(super) fn look_up(&mut self, number: u32) -> bool {
        let Some(name) = self.tools.policy.begin_look_up(number) else { return true };
        if self.unasked.is_empty() && self.tools.outside.look_up(number, name).is_ok() {
            return true;
        }
        if self.unasked.len() < MOST_UNASKED {
            self.unasked.push_back(number);
            return true;
        }
        self.answer(number, &Found::Failed("too many names at once".to_owned()));
        false
    }

    pub(super) fn take_names(&mut self) -> io::Result<()> {
        while let Some((number, found)) = self.tools.outside.answer()? {
            self.found(number, &found);
            self.ask_on();
        }
        Ok(())
    }

    /// Has those looked up that have waited for it, as far as there is room.
    fn ask_on(&mut self) {
        while let Some(&number) = self.unasked.front() {
            match self.tools.policy.text_of(number).map(|name| self.tools.outside.look_up(number, name)) {
                Some(Err(_)) => return,
                Some(Ok(())) => drop(self.unasked.pop_front()),
                None => {
                    self.unasked.pop_front();
                    self.found(number, &Found::Failed("too many names".to_owned()));
                }
            }
        }
    }

    fn found(&mut self, number: u32, found: &Found) {
        self.answer(number, found);
        let has = |addr: IpAddr| matches!(found, Found::Addresses(addresses) if addresses.contains(&addr));
        let mut ready = Vec::new();
        for mut waiting in std::mem::take(&mut self.parked) {
            waiting.names.retain(|&name| name != number);
            let is_ready = waiting.names.is_empty() || has(waiting.what.to());
            if is_ready { ready.push(waiting) } else { self.parked.push(waiting) }
        }
        // What still does not know enough parks itself again.
        for Waiting { what, since, .. } in ready {
            match what {
                Parked::Request(ends, request) => self.consider(ends, request, since),
                Parked::Datagram(ends, payload) => self.datagram(ends, &payload, since),
                Parked::Echo(request) => self.echo(request, since),
            }
        }
    }

    /// Tells all who have asked for the name.
    fn answer(&mut self, number: u32, found: &Found) {
        self.tools.policy.found(number, found.clone(), Instant::now());
        for (ends, question) in self.questions.remove(&number).unwrap_or_default() {
            if self.tools.records {
                self.record.answered(&look_up(&question), outcome(found));
            }
            self.reply(ends, question.answer(Some(found)));
        }
    }

    /// Keeps something until it is known what these names have. Those that cannot be looked up now have nothing by then.
    pub(super) fn park(&mut self, what: Parked, mut names: Vec<u32>, since: Instant) {
        names.retain(|&number| self.look_up(number));
        if self.parked.len() < MOST_PARKED {
            self.parked.push(Waiting { what, names, since });
        }
    }
}
