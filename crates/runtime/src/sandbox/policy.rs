//! What a sandbox may reach, at this moment: the names that are allowed have other addresses tomorrow.
//!
//! Pure; the time is given.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use hopyard_kernel::agent::Found;
use hopyard_net::{Allow, Deny, Hosts, Transport, is_host_name, is_opened_by_name, is_outside};

/// For so long what was found of a name is taken for true.
pub(super) const FRESH: Duration = Duration::from_secs(5);
/// For so long an address stays open that a name had: programs keep addresses, and names that stand for
/// many hosts show some of them at a time.
const KEPT: Duration = Duration::from_mins(10);
/// So many names are known at a time, where all are allowed.
const MOST_NAMES: usize = 4096;
/// 198.18.0.0/15, set aside for measurements (RFC 2544): no packet goes there.
const STAND_INS: [u8; 2] = [198, 18];

/// What somebody in the sandbox wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// A port of a host.
    Port(SocketAddr, Transport),
    /// A host, by the echo of ICMP.
    Echo(IpAddr),
}

impl Aim {
    pub(super) fn addr(self) -> IpAddr {
        match self {
            Aim::Port(to, _) => to.ip(),
            Aim::Echo(to) => to,
        }
    }

    /// Is it in those destinations, if the host is?
    fn is_service_of(self, destinations: &Allow) -> bool {
        match self {
            Aim::Port(to, transport) => destinations.has_port(to.port(), transport),
            Aim::Echo(_) => destinations.has_echo(),
        }
    }

    fn is_closed_by(self, deny: &Deny) -> bool {
        match self {
            Aim::Port(to, transport) => deny.has_port(to.ip(), to.port(), transport),
            Aim::Echo(to) => deny.has_echo(to),
        }
    }

    fn is_in(self, destinations: &Allow) -> bool {
        self.is_service_of(destinations) && destinations.has_address(self.addr())
    }
}

/// What may be reached.
#[derive(Debug)]
pub(super) struct Policy {
    allow: Vec<Allow>,
    /// Goes before.
    deny: Vec<Deny>,
    /// Those that are allowed by name come first, and have their numbers for ever.
    names: Vec<Name>,
    /// How many have been forgotten. Their numbers are not used again: they may still be looked up.
    forgotten: usize,
    numbers: HashMap<String, u32>,
    by_name: usize,
    /// Stand-ins for names that may not be reached, where it is recorded what a program would do with them.
    stand_ins: Option<Vec<String>>,
}

#[derive(Debug, Default)]
struct Name {
    text: String,
    /// When it was last found to have which address.
    addresses: HashMap<IpAddr, Instant>,
    latest: Option<(Instant, Found)>,
    is_asked: bool,
}

impl Name {
    fn is_fresh(&self, now: Instant) -> bool {
        self.latest.as_ref().is_some_and(|(at, _)| now.saturating_duration_since(*at) < FRESH)
    }
}

/// May something be reached?
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// It may.
    Allowed,
    /// It may not.
    Denied,
    /// That depends on names that have to be looked up first, or again; by number.
    Unknown(Vec<u32>),
}

/// What is answered to a question for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// What was found, or stands in for it.
    Known(Found),
    /// It has to be looked up first, under that number.
    LookUp(u32),
    /// There is no such name in this sandbox.
    Denied,
}

impl Policy {
    /// `records`: names that may not be reached get an address nevertheless, which leads nowhere.
    pub(super) fn new(allow: &[Allow], deny: &[Deny], records: bool) -> Self {
        let mut policy = Policy {
            allow: allow.to_vec(),
            deny: deny.to_vec(),
            names: Vec::new(),
            forgotten: 0,
            numbers: HashMap::new(),
            by_name: 0,
            stand_ins: records.then(Vec::new),
        };
        for name in allow.iter().filter_map(Allow::name) {
            policy.number_of(name);
        }
        policy.by_name = policy.names.len();
        policy
    }

    fn number_of(&mut self, name: &str) -> u32 {
        if let Some(&number) = self.numbers.get(name) {
            return number;
        }
        // There are fewer names than that.
        let number = u32::try_from(self.forgotten + self.names.len()).unwrap_or(u32::MAX);
        self.names.push(Name { text: name.to_owned(), ..Name::default() });
        self.numbers.insert(name.to_owned(), number);
        number
    }

    /// The names that are known, and in a rule by themselves.
    fn names_of(&self, rule: &Allow) -> Vec<(u32, &Name)> {
        match &rule.hosts {
            Hosts::Name(name) => self.name(name).into_iter().collect(),
            Hosts::Below(_) => self
                .names
                .iter()
                .filter(|name| rule.has_name(&name.text))
                .filter_map(|name| self.name(&name.text))
                .collect(),
            Hosts::Any | Hosts::Net(_) => Vec::new(),
        }
    }

    fn name(&self, name: &str) -> Option<(u32, &Name)> {
        let &number = self.numbers.get(name)?;
        Some((number, self.names.get(self.index_of(number)?)?))
    }

    /// Where a name is in the list, by its number.
    fn index_of(&self, number: u32) -> Option<usize> {
        let number = number as usize;
        if number < self.by_name {
            return Some(number);
        }
        number.checked_sub(self.forgotten).filter(|&at| at >= self.by_name)
    }

    /// `now`: when it came that is decided on. What has been looked up since then is fresh.
    pub(super) fn decide(&self, aim: Aim, now: Instant) -> Decision {
        let to = aim.addr();
        if !is_outside(to) || self.stand_in(to).is_some() {
            return Decision::Denied;
        }
        if self.deny.iter().any(|deny| aim.is_closed_by(deny)) {
            return Decision::Denied;
        }
        if self.allow.iter().any(|allow| aim.is_in(allow)) {
            return Decision::Allowed;
        }
        let mut unknown = Vec::new();
        for rule in self.allow.iter().filter(|allow| aim.is_service_of(allow)) {
            for (number, name) in self.names_of(rule) {
                match name.addresses.get(&to) {
                    Some(&seen) if now.saturating_duration_since(seen) < KEPT => return Decision::Allowed,
                    // Of names below one, those that have had this address: there is no end of the others.
                    None if rule.name().is_none() => {}
                    _ if name.is_fresh(now) => {}
                    _ => unknown.push(number),
                }
            }
        }
        // More than one rule may be of a name.
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() { Decision::Denied } else { Decision::Unknown(unknown) }
    }

    /// What to answer to a question for a name, in lower case.
    pub(super) fn answer(&mut self, name: &str, now: Instant) -> Answer {
        // What else a question may have in it is not for a resolver, nor for a terminal.
        if !is_host_name(name) {
            return Answer::Denied;
        }
        if !self.numbers.contains_key(name) && self.allow.iter().any(|allow| allow.has_name(name)) {
            if self.names.len() >= MOST_NAMES {
                self.forget_names();
            }
            self.number_of(name);
        }
        match self.name(name) {
            Some((_, Name { latest: Some((_, found)), .. })) if self.is_fresh(name, now) => {
                Answer::Known(found.clone())
            }
            Some((number, _)) => Answer::LookUp(number),
            None => self.answer_denied(name),
        }
    }

    fn is_fresh(&self, name: &str, now: Instant) -> bool {
        self.name(name).is_some_and(|(_, name)| name.is_fresh(now))
    }

    /// Forgets what is not allowed by its own name. What is being looked up for them then finds nobody.
    fn forget_names(&mut self) {
        let by_name = self.by_name;
        self.forgotten += self.names.len() - by_name;
        self.names.truncate(by_name);
        self.numbers.retain(|_, number| (*number as usize) < by_name);
    }

    fn answer_denied(&mut self, name: &str) -> Answer {
        let Some(stand_ins) = &mut self.stand_ins else { return Answer::Denied };
        let at = match stand_ins.iter().position(|known| known == name) {
            Some(at) => at,
            // So many addresses there are; the first of them is x.x.0.1.
            None if stand_ins.len() >= usize::from(u16::MAX) => return Answer::Denied,
            None => {
                stand_ins.push(name.to_owned());
                stand_ins.len() - 1
            }
        };
        let Ok(number) = u16::try_from(at + 1) else { return Answer::Denied };
        let [high, low] = number.to_be_bytes();
        let addr = Ipv4Addr::new(STAND_INS[0], STAND_INS[1], high, low);
        Answer::Known(Found::Addresses(vec![addr.into()]))
    }

    /// The name for which an address stands in.
    pub(super) fn stand_in(&self, addr: IpAddr) -> Option<&str> {
        let IpAddr::V4(addr) = addr else { return None };
        let [a, b, high, low] = addr.octets();
        let at = usize::from(u16::from_be_bytes([high, low])).checked_sub(1)?;
        ([a, b] == STAND_INS).then_some(())?;
        self.stand_ins.as_ref()?.get(at).map(String::as_str)
    }

    /// The name by which an address was given to the sandbox: one that is allowed by name for that port comes
    /// first.
    pub(super) fn name_of(&self, aim: Aim) -> Option<&str> {
        let to = aim.addr();
        if let Some(name) = self.stand_in(to) {
            return Some(name);
        }
        let has = |name: &&Name| name.addresses.contains_key(&to);
        let by_rule = self.allow.iter().filter(|allow| aim.is_service_of(allow));
        let by_rule = by_rule.flat_map(|allow| self.names_of(allow)).map(|(_, name)| name).find(has);
        by_rule.or_else(|| self.names.iter().find(has)).map(|name| name.text.as_str())
    }

    /// The name of that number, if nobody has asked for it yet.
    pub(super) fn begin_look_up(&mut self, number: u32) -> Option<&str> {
        let at = self.index_of(number)?;
        let name = self.names.get_mut(at).filter(|name| !name.is_asked)?;
        name.is_asked = true;
        Some(&name.text)
    }

    /// The name of that number; `None`: it has been forgotten.
    pub(super) fn text_of(&self, number: u32) -> Option<&str> {
        Some(&self.names.get(self.index_of(number)?)?.text)
    }

    /// Takes in what was found; `None`: nobody wants to know any more.
    pub(super) fn found(&mut self, number: u32, found: Found, now: Instant) -> Option<&str> {
        let at = self.index_of(number)?;
        let name = self.names.get_mut(at)?;
        name.is_asked = false;
        if let Found::Addresses(addresses) = &found {
            name.addresses.retain(|_, &mut seen| now.saturating_duration_since(seen) < KEPT);
            let opened = addresses.iter().filter(|addr| is_opened_by_name(**addr));
            name.addresses.extend(opened.map(|&addr| (addr, now)));
        }
        name.latest = Some((now, found));
        Some(&name.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(rules: &[&str], records: bool) -> Policy {
        Policy::new(&rules.iter().map(|rule| rule.parse().unwrap()).collect::<Vec<_>>(), &[], records)
    }

    fn to(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn addresses(list: &[&str]) -> Found {
        Found::Addresses(list.iter().map(|addr| addr.parse().unwrap()).collect())
    }

    #[test]
    fn nothing_is_reached_by_default() {
        let mut policy = policy(&[], false);
        let now = Instant::now();
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:80"), Transport::Tcp), now), Decision::Denied);
        assert_eq!(policy.answer("example.org", now), Answer::Denied);
    }

    #[test]
    fn any_is_not_what_no_host_has() {
        let policy = policy(&["any"], false);
        let now = Instant::now();
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:80"), Transport::Udp), now), Decision::Allowed);
        for text in ["127.0.0.1:80", "0.0.0.0:80", "[::1]:80", "[::ffff:127.0.0.1]:80", "224.0.0.1:80"] {
            assert_eq!(policy.decide(Aim::Port(to(text), Transport::Tcp), now), Decision::Denied, "{text}");
        }
    }

    #[test]
    fn a_name_opens_its_addresses_for_its_port_alone() {
        let mut policy = policy(&["example.org:443"], false);
        let now = Instant::now();
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:443"), Transport::Tcp), now), Decision::Unknown(vec![0]));
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:80"), Transport::Tcp), now), Decision::Denied);
        assert_eq!(policy.answer("example.org", now), Answer::LookUp(0));
        assert_eq!(policy.begin_look_up(0), Some("example.org"));
        assert_eq!(policy.begin_look_up(0), None);
        policy.found(0, addresses(&["10.0.0.1"]), now);
        assert_eq!(policy.answer("example.org", now), Answer::Known(addresses(&["10.0.0.1"])));
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:443"), Transport::Tcp), now), Decision::Allowed);
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.2:443"), Transport::Tcp), now), Decision::Denied);
        assert_eq!(policy.answer("example.com", now), Answer::Denied);
    }

    #[test]
    fn a_host_is_pinged_where_no_port_is_named() {
        let mut policy = policy(&["10.0.0.0/8", "11.0.0.1:80", "example.org/icmp"], false);
        let now = Instant::now();
        let echo = |text: &str| Aim::Echo(text.parse().unwrap());
        assert_eq!(policy.decide(echo("10.0.0.1"), now), Decision::Allowed);
        policy.found(0, addresses(&["12.0.0.1"]), now);
        assert_eq!(policy.decide(echo("11.0.0.1"), now), Decision::Denied);
        assert_eq!(policy.decide(echo("12.0.0.1"), now), Decision::Allowed);
        assert_eq!(policy.decide(Aim::Port(to("12.0.0.1:80"), Transport::Tcp), now), Decision::Denied);
        assert_eq!(policy.decide(echo("127.0.0.1"), now), Decision::Denied);
    }

    #[test]
    fn names_below_one_open_what_they_have() {
        let mut policy = policy(&["*.example.org:443"], false);
        let start = Instant::now();
        let https = |text: &str| Aim::Port(to(text), Transport::Tcp);
        for other in ["example.org", "badexample.org", "a.test"] {
            assert_eq!(policy.answer(other, start), Answer::Denied, "{other}");
        }
        let Answer::LookUp(number) = policy.answer("a.example.org", start) else { panic!("it is not looked up") };
        assert_eq!(policy.decide(https("10.0.0.1:443"), start), Decision::Denied, "nobody has asked for it");
        assert_eq!(policy.found(number, addresses(&["10.0.0.1"]), start), Some("a.example.org"));
        assert_eq!(policy.decide(https("10.0.0.1:443"), start), Decision::Allowed);
        assert_eq!(policy.decide(https("10.0.0.1:80"), start), Decision::Denied);
        assert_eq!(policy.decide(https("10.0.0.2:443"), start + FRESH), Decision::Denied);
        assert_eq!(policy.name_of(https("10.0.0.1:443")), Some("a.example.org"));
        // Who has kept an address for long has it looked up again.
        assert_eq!(policy.decide(https("10.0.0.1:443"), start + KEPT), Decision::Unknown(vec![number]));
        policy.found(number, addresses(&["10.0.0.2"]), start + KEPT);
        assert_eq!(policy.decide(https("10.0.0.1:443"), start + KEPT), Decision::Denied);
    }

    #[test]
    fn what_is_denied_stays_closed_whatever_a_name_leads_to() {
        let allow = ["any", "example.org:443"].map(|rule| rule.parse().unwrap());
        let deny = ["10.0.0.0/8", "any:25"].map(|rule| rule.parse().unwrap());
        let mut policy = Policy::new(&allow, &deny, false);
        let now = Instant::now();
        policy.found(0, addresses(&["10.0.0.1"]), now);
        for (text, decision) in [
            ("10.0.0.1:443", Decision::Denied),
            ("11.0.0.1:443", Decision::Allowed),
            ("11.0.0.1:25", Decision::Denied),
            ("[fd00::1]:25", Decision::Denied),
            // 10.0.0.1 as a translator knows it.
            ("[64:ff9b::a00:1]:443", Decision::Denied),
            ("[64:ff9b::b00:1]:443", Decision::Allowed),
        ] {
            assert_eq!(policy.decide(Aim::Port(to(text), Transport::Tcp), now), decision, "{text}");
        }
        assert_eq!(policy.decide(Aim::Echo("10.0.0.1".parse().unwrap()), now), Decision::Denied);
        assert_eq!(policy.decide(Aim::Echo("64:ff9b::a00:1".parse().unwrap()), now), Decision::Denied);
        assert_eq!(policy.decide(Aim::Echo("11.0.0.1".parse().unwrap()), now), Decision::Allowed);
    }

    #[test]
    fn a_name_is_followed_when_it_moves() {
        let mut policy = policy(&["example.org:443"], false);
        let start = Instant::now();
        policy.found(0, addresses(&["10.0.0.1"]), start);
        // Another address: only a new look can tell.
        let later = start + FRESH;
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.2:443"), Transport::Tcp), later), Decision::Unknown(vec![0]));
        policy.found(0, addresses(&["10.0.0.2"]), later);
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.2:443"), Transport::Tcp), later), Decision::Allowed);
        // Somebody may still use the old one, but not for ever.
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:443"), Transport::Tcp), later), Decision::Allowed);
        let end = start + KEPT;
        policy.found(0, addresses(&["10.0.0.2"]), end);
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:443"), Transport::Tcp), end), Decision::Denied);
    }

    #[test]
    fn what_has_waited_for_slow_names_is_decided_by_them() {
        let mut policy = policy(&["example.org:443", "example.net:443"], false);
        let start = Instant::now();
        let aim = Aim::Port(to("10.0.0.1:443"), Transport::Tcp);
        assert_eq!(policy.decide(aim, start), Decision::Unknown(vec![0, 1]));
        for (number, after) in [(0, 2 * FRESH), (1, 4 * FRESH)] {
            policy.found(number, Found::Failed("no server".into()), start + after);
        }
        assert_eq!(policy.decide(aim, start), Decision::Denied);
        assert_eq!(policy.decide(aim, start + 6 * FRESH), Decision::Unknown(vec![0, 1]), "who asks again");
    }

    #[test]
    fn who_answers_for_a_name_opens_nothing_of_the_link() {
        let mut policy = policy(&["example.org", "*.example.net"], false);
        let start = Instant::now();
        let Answer::LookUp(below) = policy.answer("a.example.net", start) else { panic!("it is known") };
        for number in [0, below] {
            policy.found(number, addresses(&["169.254.169.254", "fe80::1", "10.0.0.1"]), start);
        }
        let decide = |policy: &Policy, addr: &str| policy.decide(Aim::Echo(addr.parse().unwrap()), start);
        assert_eq!(decide(&policy, "10.0.0.1"), Decision::Allowed);
        assert_eq!(decide(&policy, "169.254.169.254"), Decision::Denied);
        assert_eq!(decide(&policy, "fe80::1"), Decision::Denied);
        let policy = self::policy(&["example.org", "169.254.169.254"], false);
        assert_eq!(decide(&policy, "169.254.169.254"), Decision::Allowed);
    }

    #[test]
    fn a_name_that_cannot_be_looked_up_keeps_what_it_had() {
        let mut policy = policy(&["example.org"], false);
        let start = Instant::now();
        policy.found(0, addresses(&["10.0.0.1"]), start);
        policy.found(0, Found::Failed("no server".into()), start + FRESH);
        assert_eq!(policy.decide(Aim::Port(to("10.0.0.1:1"), Transport::Udp), start + FRESH), Decision::Allowed);
    }

    #[test]
    fn a_recorder_gives_stand_ins_that_lead_nowhere() {
        let mut policy = policy(&["any"], true);
        let now = Instant::now();
        assert_eq!(policy.answer("example.org", now), Answer::LookUp(0));
        let mut policy = self::policy(&["example.org"], true);
        let Answer::Known(Found::Addresses(first)) = policy.answer("a.test", now) else { panic!("no stand-in") };
        assert_eq!(policy.answer("a.test", now), Answer::Known(Found::Addresses(first.clone())));
        assert_ne!(policy.answer("b.test", now), Answer::Known(Found::Addresses(first.clone())));
        let stand_in = SocketAddr::new(first[0], 443);
        assert_eq!(policy.name_of(Aim::Port(stand_in, Transport::Tcp)), Some("a.test"));
        assert_eq!(policy.decide(Aim::Port(stand_in, Transport::Tcp), now), Decision::Denied);
    }

    #[test]
    fn stand_ins_come_to_an_end() {
        let mut policy = policy(&[], true);
        let now = Instant::now();
        let known: Vec<String> = (0..usize::from(u16::MAX)).map(|number| format!("n{number}.test")).collect();
        policy.stand_ins = Some(known);
        assert_eq!(policy.answer("new.test", now), Answer::Denied);
        assert_eq!(policy.stand_ins.as_ref().map(Vec::len), Some(usize::from(u16::MAX)));
        assert_eq!(policy.answer("n65534.test", now), Answer::Known(addresses(&["198.18.255.255"])));
    }

    #[test]
    fn what_is_no_host_name_is_nobody() {
        let mut policy = policy(&["any"], true);
        for name in ["\u{1b}[2J.test", "a b", "127.0.0.1", "", "x..y", "-x.test"] {
            assert_eq!(policy.answer(name, Instant::now()), Answer::Denied, "{name:?}");
        }
    }

    #[test]
    fn names_without_end_are_forgotten_but_not_the_allowed_ones() {
        let mut policy = policy(&["example.org:443", "any:53"], false);
        let now = Instant::now();
        for number in 0..MOST_NAMES + 10 {
            policy.answer(&format!("n{number}.test"), now);
        }
        assert!(policy.names.len() <= MOST_NAMES);
        // What is found of a forgotten name is not another's.
        assert_eq!(policy.found(1, addresses(&["10.0.0.1"]), now), None);
        let Answer::LookUp(number) = policy.answer("new.test", now) else { panic!("it is known") };
        assert!(number as usize >= MOST_NAMES, "{number}");
        assert_eq!(policy.found(number, addresses(&["10.0.0.2"]), now), Some("new.test"));
        assert_eq!(policy.answer("new.test", now), Answer::Known(addresses(&["10.0.0.2"])));
        assert_eq!(policy.answer("example.org", now), Answer::LookUp(0));
    }
}
