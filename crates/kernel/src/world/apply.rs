//! Operations carried out, in as few visits to the kernel as their order allows.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;
use std::os::fd::OwnedFd;

use hopyard_net::{Endpoint, Family, IfName, IpNet, MacAddr, Nat, NsName, Op, SysctlKey, VethEnd};

use super::fresh::{Made, Maker, SpacePlan, UntoldFiles};
use super::phase::{Kind, Phase, phases};
use super::{Netns, World, in_parallel, no_such_node, visit};
use crate::encode::{self, NewEnd};
use crate::error::Refusal;
use crate::links::{IfIndex, LinkTable};
use crate::netlink::{Batch, Inbox, RtSocket};
use crate::nftables::{NftSocket, Owner, TableName, Transaction};
use crate::sysctl::SysctlFiles;
use crate::{ApplyError, Errno, KernelError, decode, namespace};

/// Between two reports of progress at most so many namespaces are made.
const SPACES_AT_A_TIME: usize = 1000;

/// Between two reports of progress at most so many namespaces are configured.
const GROUPS_AT_A_TIME: usize = 4000;

/// A request for a link needs a descriptor of the peer's namespace until it is sent.
const LINKS_AT_A_TIME: usize = 32;

/// The group (`ip link set group`) of interfaces that are about to be removed together: "hop" and a
/// number that nobody is likely to use.
const DOOMED: u32 = 0x686f_70ff;

/// Which operations failed.
pub(super) type Failures = Vec<(usize, Refusal)>;

/// Reports how many operations of a phase have been tried; the last report counts.
pub(super) type Progress<'a> = &'a mut dyn FnMut(usize);

impl World {
    /// Carries out operations, in order as far as they depend on each other. `on` learns from time
    /// to time how many are done.
    ///
    /// When it returns, packets flow: interfaces that were set up are activated.
    ///
    /// # Errors
    /// The operation of the lowest index that failed. Those before it are done; those behind it may
    /// be, for operations of one kind go to the kernel together.
    pub fn apply(&mut self, ops: &[Op], on: &mut dyn FnMut(usize)) -> Result<(), ApplyError> {
        // Others may have changed the interfaces since we looked.
        for space in self.spaces.values_mut() {
            space.links = None;
        }
        let mut done = 0;
        let late = switches(ops);
        for Phase { kind, ops: range } in phases(ops) {
            let mut tried = 0;
            let mut report = |within: usize| {
                tried = within;
                on(done + within);
            };
            let mut failures = match kind {
                Kind::EndSpaces => self.end_spaces(ops, range, &mut report),
                Kind::RemoveLinks => self.remove_links(ops, range, &mut report),
                Kind::MakeSpaces => self.make_spaces(ops, range, &mut report),
                Kind::MakeLinks => self.make_links(ops, range, &mut report),
                Kind::MoveLinks => self.move_links(ops, range, &mut report),
                Kind::Configure => self.configure(ops, range.filter(|at| !late.contains(at)), &mut report),
            };
            failures.retain(|(at, refusal)| !is_moot(&ops[*at], refusal.errno));
            let failed: BTreeSet<usize> = failures.iter().map(|(at, _)| *at).collect();
            done += tried - failed.len().min(tried);
            // The first of its refusals, for an operation may consist of several requests.
            if let Some((at, refusal)) = failures.into_iter().min_by_key(|(at, _)| *at) {
                return Err(ApplyError { at, done, error: KernelError::of_op(&ops[at], refusal) });
            }
        }
        self.settle(ops);
        self.await_addresses(ops);
        self.start_switches(ops, &late).map_err(|(at, refusal)| ApplyError {
            at,
            done,
            error: KernelError::of_op(&ops[at], refusal),
        })?;
        on(done + late.len());
        Ok(())
    }

    /// Sets up the bridges that were left for the end.
    fn start_switches(&self, ops: &[Op], late: &BTreeSet<usize>) -> Result<(), (usize, Refusal)> {
        let mut worker = Worker::new(SysctlFiles::new(None, 0));
        for &at in late {
            let Op::SetUp { at: Endpoint { ns, dev }, .. } = &ops[at] else { continue };
            let space = self.space(ns).map_err(|refusal| (at, refusal))?;
            worker.configure(ns, space, ops, &[at]);
            self.activate(ns, *dev);
        }
        worker.failures.into_iter().next().map_or(Ok(()), Err)
    }

    fn end_spaces(&mut self, ops: &[Op], range: Range<usize>, on: Progress<'_>) -> Failures {
        let all = range.len();
        let mut failures = Failures::new();
        let mut doomed = BTreeSet::new();
        for at in range {
            let name = ops[at].ns();
            if self.spaces.contains_key(name) {
                doomed.insert(name.clone());
            } else {
                failures.push((at, no_such_node(name)));
            }
        }
        // Where nothing else survives there is nobody to see a link vanish late.
        if doomed.len() < self.spaces.len() {
            // A namespace ends when its last holder lets go, some 30 ms later; its links to others
            // are removed now, so that their names are free when this returns.
            if let Err(refusal) = self.remove_links_out_of(&doomed) {
                let first = range_of(ops, &doomed);
                failures.extend(first.map(|at| (at, refusal)));
                return failures;
            }
        }
        for name in &doomed {
            self.spaces.remove(name);
        }
        self.forget_pairs(|ns| doomed.contains(ns));
        self.forget_links();
        on(all);
        failures
    }

    fn remove_links(&mut self, ops: &[Op], range: Range<usize>, on: Progress<'_>) -> Failures {
        let mut tried = 0;
        let mut failures = Failures::new();
        let mut inbox = Inbox::default();
        let mut batch = Batch::default();
        for (name, group) in groups(ops, range) {
            let mut indexes = Vec::new();
            tried += group.len();
            for at in group {
                let Op::DelLink(Endpoint { dev, .. }) = &ops[at] else { continue };
                match self.links_mut(&name, &mut inbox).and_then(|links| index_of(links, &name, *dev)) {
                    Ok(index) => indexes.push((at, index)),
                    Err(refusal) => failures.push((at, refusal)),
                }
            }
            let Ok(space) = self.space(&name) else { continue };
            remove_together(&space.socket, &indexes, &mut batch, &mut inbox, &mut failures);
            on(tried);
        }
        // The other ends are gone as well, wherever they were.
        self.forget_links();
        failures
    }

    /// Indexes of interfaces are read anew where they are next needed.
    fn forget_links(&mut self) {
        for space in self.spaces.values_mut() {
            space.links = None;
        }
    }

    fn make_spaces(&mut self, ops: &[Op], range: Range<usize>, on: Progress<'_>) -> Failures {
        let mut failures = Failures::new();
        let mut plans: Vec<SpacePlan<'_>> = Vec::new();
        let mut plan_of: HashMap<&NsName, usize> = HashMap::new();
        let mut elsewhere = Vec::new();
        for at in range {
            match &ops[at] {
                Op::AddNs(name) if self.spaces.contains_key(name) || plan_of.contains_key(name) => {
                    failures.push((at, Refusal::saying(Errno::EXIST, format!("there is a node {name} already"))));
                }
                Op::AddNs(name) => {
                    plan_of.insert(name, plans.len());
                    plans.push(SpacePlan { at, name, sysctls: Vec::new() });
                }
                Op::SetSysctl { ns, key, value } => match plan_of.get(ns) {
                    Some(&plan) => plans[plan].sysctls.push((at, key, value)),
                    None => elsewhere.push(at),
                },
                _ => {}
            }
        }
        namespace::make_room_for_files(self.spaces.len() + plans.len());
        let mut done = 0;
        let machine = if plans.is_empty() { None } else { UntoldFiles::of_machine() };
        let spent = self.closer.start(plans.len());
        for (at, chunk) in plans.chunks(SPACES_AT_A_TIME).enumerate() {
            let made = in_parallel(chunk, |queue| {
                visit(&self.realm, || {
                    let files = SysctlFiles::new(spent.clone(), at * SPACES_AT_A_TIME);
                    let mut maker = Maker::new(files, machine.as_ref());
                    while let Some((_, plan)) = queue.take() {
                        maker.make(plan);
                    }
                    maker.finish()
                })
            });
            let mut missing: BTreeMap<&NsName, usize> = chunk.iter().map(|plan| (plan.name, plan.at)).collect();
            let mut no_visit = None;
            for thread in made {
                match thread {
                    Ok(spaces) => {
                        for Made { name, socket, failures: failed } in spaces {
                            missing.remove(name);
                            failures.extend(failed);
                            if let Some(socket) = socket {
                                let links = Some(LinkTable::of_new_namespace());
                                self.spaces.insert(name.clone(), Netns { socket, links });
                            }
                        }
                    }
                    Err(refusal) => no_visit = Some(refusal),
                }
            }
            // One thread may have done it all.
            failures.extend(missing.into_values().zip(no_visit.into_iter().cycle()));
            done += chunk.iter().map(|plan| 1 + plan.sysctls.len()).sum::<usize>();
            on(done);
            // Without a namespace there is no sense in going on; a sysctl may fail behind all of them.
            if failures.iter().any(|(at, _)| matches!(ops[*at], Op::AddNs(_))) {
                return failures;
            }
        }
        if !elsewhere.is_empty() {
            let mut report = |within: usize| on(done + within);
            failures.extend(self.configure_groups(ops, &groups(ops, elsewhere), &mut report));
        }
        failures
    }

    fn make_links(&mut self, ops: &[Op], range: Range<usize>, on: Progress<'_>) -> Failures {
        let mut failures = Failures::new();
        let mut inbox = Inbox::default();
        let mut batch = Batch::default();
        let mut at = range.start;
        while at < range.end {
            // Consecutive links of one namespace go in one send.
            let name = ops[at].ns();
            let end = (at..range.end.min(at + LINKS_AT_A_TIME)).find(|&i| ops[i].ns() != name);
            let run = at..end.unwrap_or(range.end.min(at + LINKS_AT_A_TIME));
            at = run.end;
            // Open until the requests that name them are sent.
            let mut peers = Vec::new();
            for i in run.clone() {
                if let Err(refusal) = self.add_link_request(&ops[i], i, &mut batch, &mut inbox, &mut peers) {
                    failures.push((i, refusal));
                }
            }
            let sent = match self.space(name) {
                Ok(space) => submit(&space.socket, &mut batch, &mut inbox, &mut failures),
                Err(_) => Ok(()),
            };
            if let Err(refusal) = sent {
                failures.push((run.start, refusal));
            }
            on(at - range.start);
            if !failures.is_empty() {
                self.forget_links();
                return failures;
            }
            for op in &ops[run] {
                if let Op::AddVeth { a, b } = op {
                    self.pairs.insert(a.at.clone(), b.at.clone());
                    self.pairs.insert(b.at.clone(), a.at.clone());
                }
            }
        }
        failures
    }

    fn add_link_request(
        &mut self,
        op: &Op,
        at: usize,
        batch: &mut Batch,
        inbox: &mut Inbox,
        peers: &mut Vec<OwnedFd>,
    ) -> Result<(), Refusal> {
        let (request, flags) = match op {
            Op::AddBridge(Endpoint { ns, dev }) => encode::add_bridge(*dev, self.assign(ns, *dev, None, inbox)?),
            Op::AddVeth { a, b } => {
                let new_a = self.new_end(a, inbox)?;
                let new_b = self.new_end(b, inbox)?;
                let peer = self.space(&b.at.ns)?.socket.namespace()?;
                let request = encode::add_veth(&new_a, &new_b, std::os::fd::AsFd::as_fd(&peer));
                peers.push(peer);
                request
            }
            _ => return Ok(()),
        };
        batch.push(sequence(at), flags, request);
        Ok(())
    }

    fn new_end<'a>(&mut self, end: &'a VethEnd, inbox: &mut Inbox) -> Result<NewEnd<'a>, Refusal> {
        // Drawn here rather than by the kernel, so that the link-local address is known as well.
        let mac = end.mac.map_or_else(draw_mac, Ok)?;
        Ok(NewEnd { end, index: self.assign(&end.at.ns, end.at.dev, Some(mac), inbox)?, mac })
    }

    fn assign(
        &mut self,
        ns: &NsName,
        dev: IfName,
        mac: Option<MacAddr>,
        inbox: &mut Inbox,
    ) -> Result<IfIndex, Refusal> {
        self.links_mut(ns, inbox)?
            .assign(dev, mac)
            .ok_or_else(|| Refusal::saying(Errno::EXIST, format!("{ns} has an interface {dev} already")))
    }

    fn configure(&mut self, ops: &[Op], indexes: impl Iterator<Item = usize>, on: Progress<'_>) -> Failures {
        let groups = groups(ops, indexes);
        self.configure_groups(ops, &groups, on)
    }

    fn configure_groups(&mut self, ops: &[Op], groups: &[Group], on: Progress<'_>) -> Failures {
        let mut failures = Failures::new();
        let mut inbox = Inbox::default();
        for (name, ops_of_it) in groups {
            if let Err(refusal) = self.links_mut(name, &mut inbox) {
                failures.extend(ops_of_it.iter().map(|&at| (at, refusal.clone())));
            }
        }
        if !failures.is_empty() {
            return failures;
        }
        let mut done = 0;
        let spent = self.closer.start(groups.len());
        for (at, chunk) in groups.chunks(GROUPS_AT_A_TIME).enumerate() {
            let met = at * GROUPS_AT_A_TIME;
            let inside = |op: &Op| matches!(op, Op::SetSysctl { .. } | Op::SetNat { .. } | Op::DelNat(_));
            let enters = chunk.iter().any(|(_, group)| group.iter().any(|&at| inside(&ops[at])));
            let work = |queue: &super::Queue<'_, Group>| {
                let mut worker = Worker::new(SysctlFiles::new(spent.clone(), met));
                while let Some((at, (name, group))) = queue.take() {
                    worker.visited.insert(at);
                    if let Some(space) = self.spaces.get(name) {
                        worker.configure(name, space, ops, group);
                    }
                }
                worker
            };
            let results =
                in_parallel(chunk, |queue| if enters { visit(&self.realm, || work(queue)) } else { Ok(work(queue)) });
            let mut missing: BTreeSet<usize> = (0..chunk.len()).collect();
            let mut no_visit = None;
            for result in results {
                match result {
                    Ok(worker) => {
                        missing.retain(|at| !worker.visited.contains(at));
                        failures.extend(worker.failures);
                    }
                    Err(refusal) => no_visit = Some(refusal),
                }
            }
            let not_done = missing.into_iter().flat_map(|at| chunk[at].1.iter().copied());
            failures.extend(not_done.zip(no_visit.into_iter().cycle()));
            done += chunk.iter().map(|(_, group)| group.len()).sum::<usize>();
            on(done);
        }
        failures
    }

    /// Activates what the operations have set up, and the other ends of it.
    fn settle(&self, ops: &[Op]) {
        let mut ends: BTreeMap<&NsName, BTreeSet<IfName>> = BTreeMap::new();
        let mut bridges: BTreeSet<(&NsName, IfName)> = BTreeSet::new();
        for op in ops {
            match op {
                Op::SetUp { at, up: true } => {
                    ends.entry(&at.ns).or_default().insert(at.dev);
                    if let Some(peer) = self.pairs.get(at) {
                        ends.entry(&peer.ns).or_default().insert(peer.dev);
                    }
                }
                Op::AddBridge(at) => {
                    bridges.insert((&at.ns, at.dev));
                }
                Op::SetMaster { at, master: Some(bridge) } => {
                    bridges.insert((&at.ns, *bridge));
                }
                _ => {}
            }
        }
        let ends: Vec<_> = ends.into_iter().collect();
        in_parallel(&ends, |queue| {
            while let Some((_, (ns, devs))) = queue.take() {
                for dev in devs {
                    self.activate(ns, *dev);
                }
            }
        });
        // A bridge gets its carrier from its ports, so it comes behind them.
        for (ns, dev) in bridges {
            self.activate(ns, dev);
        }
    }

    fn activate(&self, ns: &NsName, dev: IfName) {
        if let Some(space) = self.spaces.get(ns) {
            // Only an interface that is gone again refuses this, and then there is nothing to wait for.
            crate::settle::activate(&space.socket, dev).ok();
        }
    }

    /// Removes the links between namespaces that end and anything else.
    fn remove_links_out_of(&mut self, doomed: &BTreeSet<NsName>) -> Result<(), Refusal> {
        let pairs = Self::find_pairs(&self.read_all_links()?)?;
        let mut inbox = Inbox::default();
        let mut batch = Batch::default();
        for name in doomed {
            let space = self.space(name)?;
            let mut leaving = Vec::new();
            for link in super::observe::read_links(&space.socket, &mut inbox)? {
                if !matches!(link.kind, decode::FoundKind::Veth { .. }) {
                    continue;
                }
                let peer = pairs.get(&Endpoint { ns: name.clone(), dev: link.dev });
                if peer.is_none_or(|peer| !doomed.contains(&peer.ns)) {
                    leaving.push((leaving.len(), link.index));
                }
            }
            let mut failures = Failures::new();
            remove_together(&space.socket, &leaving, &mut batch, &mut inbox, &mut failures);
            if let Some((_, refusal)) = failures.into_iter().next() {
                return Err(refusal);
            }
        }
        Ok(())
    }
}

/// Was something to be removed that is not there? A link goes when the namespace of its other end
/// does, and when the kernel gets to that is its own affair.
fn is_moot(op: &Op, errno: Errno) -> bool {
    let absent: &[i32] = match op {
        Op::DelLink(_) | Op::ReturnLink(_) | Op::DelAltName { .. } => &[libc::ENODEV],
        Op::DelAddr { .. } => &[libc::ENODEV, libc::EADDRNOTAVAIL],
        Op::DelRoute { .. } => &[libc::ENODEV, libc::ESRCH],
        Op::DelNeigh { .. } => &[libc::ENODEV, libc::ENOENT],
        Op::DelNat(_) => &[libc::ENOENT],
        _ => &[],
    };
    absent.contains(&errno.raw())
}

/// Which operations set up a new bridge that does nothing but switch.
///
/// Those come last. A node that gets its IPv6 addresses joins groups, and tells everybody (RFC 3810):
/// a bridge that is up hands each of these reports to all its ports, which are a million packets
/// where there are a thousand ports. While it is down they end at its ports.
fn switches(ops: &[Op]) -> BTreeSet<usize> {
    let mut switches: HashMap<&Endpoint, Option<usize>> = HashMap::new();
    for (index, op) in ops.iter().enumerate() {
        match op {
            Op::AddBridge(at) => {
                switches.insert(at, None);
            }
            Op::SetUp { at, up: true } => {
                if let Some(index_of_it) = switches.get_mut(at) {
                    *index_of_it = Some(index);
                }
            }
            // What has addresses is a node as well, and its routes need it to be up.
            Op::AddAddr { at, .. } | Op::SetUp { at, up: false } | Op::DelLink(at) => {
                switches.remove(at);
            }
            _ => {}
        }
    }
    switches.into_values().flatten().collect()
}

/// The operations of one namespace, by index, in order.
type Group = (NsName, Vec<usize>);

/// Operations by namespace, each in order, in the order of first appearance.
fn groups(ops: &[Op], indexes: impl IntoIterator<Item = usize>) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut group_of: HashMap<&NsName, usize> = HashMap::new();
    for at in indexes {
        let name = ops[at].ns();
        // Most often it is the namespace of the operation before.
        match groups.last_mut() {
            Some((last, group)) if last == name => group.push(at),
            _ => {
                let group = *group_of.entry(name).or_insert(groups.len());
                match groups.get_mut(group) {
                    Some((_, group)) => group.push(at),
                    None => groups.push((name.clone(), vec![at])),
                }
            }
        }
    }
    groups
}

fn range_of(ops: &[Op], names: &BTreeSet<NsName>) -> Option<usize> {
    ops.iter().position(|op| matches!(op, Op::DelNs(name) if names.contains(name)))
}

/// A random Ethernet address: unicast, locally administered (IEEE 802, clause 8).
fn draw_mac() -> Result<MacAddr, Refusal> {
    let mut bytes = [0; 6];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    bytes[0] = bytes[0] & 0xfc | 0x02;
    Ok(MacAddr::from_bytes(bytes))
}

/// The sequence number of a request that may fail.
const OPTIONAL: u32 = u32::MAX;

/// The sequence number of the requests that an operation makes.
fn sequence(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(OPTIONAL - 1)
}

fn submit(socket: &RtSocket, batch: &mut Batch, inbox: &mut Inbox, failures: &mut Failures) -> Result<(), Refusal> {
    socket
        .submit(batch, inbox, &mut |sequence, refusal| {
            if sequence != OPTIONAL {
                failures.push((sequence as usize, refusal));
            }
        })
        .map_err(Refusal::from)
}

fn index_of(links: &LinkTable, ns: &NsName, dev: IfName) -> Result<IfIndex, Refusal> {
    links.index(dev).ok_or_else(|| Refusal::saying(Errno::NODEV, format!("{ns} has no interface {dev}")))
}

/// Removes interfaces of one namespace; all together, for each removal on its own waits tens of
/// milliseconds for the rest of the kernel to let go.
fn remove_together(
    socket: &RtSocket,
    links: &[(usize, IfIndex)],
    batch: &mut Batch,
    inbox: &mut Inbox,
    failures: &mut Failures,
) {
    let mut push = |at: usize, (request, flags): encode::Request| batch.push(sequence(at), flags, request);
    match links {
        [] => return,
        [(at, index)] => push(*at, encode::del_link(*index)),
        [(first, _), ..] => {
            for (at, index) in links {
                push(*at, encode::set_group(*index, DOOMED));
            }
            push(*first, encode::del_group(DOOMED));
        }
    }
    if let Err(refusal) = submit(socket, batch, inbox, failures) {
        failures.push((links[0].0, refusal));
    }
}

/// Configures namespaces, one after the other, with one buffer.
struct Worker {
    batch: Batch,
    inbox: Inbox,
    files: SysctlFiles,
    /// The groups that it took.
    visited: BTreeSet<usize>,
    failures: Failures,
}

impl Worker {
    fn new(files: SysctlFiles) -> Self {
        Worker {
            batch: Batch::default(),
            inbox: Inbox::default(),
            files,
            visited: BTreeSet::new(),
            failures: Vec::new(),
        }
    }

    fn configure(&mut self, name: &NsName, space: &Netns, ops: &[Op], group: &[usize]) {
        let Some(links) = &space.links else { return };
        let rising = group.iter().filter_map(|&at| match &ops[at] {
            Op::SetUp { at, up: true } => Some(at.dev),
            _ => None,
        });
        let rising: BTreeSet<IfName> = rising.collect();
        let getting_ipv6 = group.iter().filter_map(|&at| match &ops[at] {
            Op::AddAddr { at, addr: IpNet::V6(_) } => Some(at.dev),
            _ => None,
        });
        let getting_ipv6: BTreeSet<IfName> = getting_ipv6.collect();
        let mut context = Context {
            name,
            space,
            links,
            promotions: Promotions::default(),
            link_locals: (!getting_ipv6.is_empty()).then(BTreeMap::new),
            returning: getting_ipv6.difference(&rising).copied().collect(),
            rising,
        };
        let mut inside = false;
        for &at in group {
            let result = match &ops[at] {
                Op::SetSysctl { key, value, .. } => {
                    // What goes before it must be done before it.
                    self.flush(space, at);
                    self.set_sysctl(space, &mut inside, key, value)
                }
                Op::SetNat { nat, .. } => {
                    self.flush(space, at);
                    set_nat(space, Some(nat))
                }
                Op::DelNat(_) => set_nat(space, None),
                op => self.request(&mut context, op, at),
            };
            if let Err(refusal) = result {
                self.failures.push((at, refusal));
            }
            if self.batch.is_full() {
                self.flush(space, at);
            }
        }
        if let Some(&last) = group.last() {
            self.flush(space, last);
        }
    }

    fn flush(&mut self, space: &Netns, at: usize) {
        if !self.batch.is_empty()
            && let Err(refusal) = submit(&space.socket, &mut self.batch, &mut self.inbox, &mut self.failures)
        {
            self.batch.clear();
            self.failures.push((at, refusal));
        }
    }

    fn set_sysctl(&mut self, space: &Netns, inside: &mut bool, key: &SysctlKey, value: &str) -> Result<(), Refusal> {
        if !*inside {
            namespace::enter(space.socket.namespace()?)?;
            self.files.arrive();
            *inside = true;
        }
        Ok(self.files.write(key, value)?)
    }

    fn request(&mut self, context: &mut Context<'_>, op: &Op, at: usize) -> Result<(), Refusal> {
        let Context { name, space, links, .. } = *context;
        let index = |dev: &IfName| index_of(links, name, *dev);
        let (request, flags) = match op {
            Op::AddAltName { at, name } => encode::add_alt_name(index(&at.dev)?, name),
            Op::DelAltName { at, name } => encode::del_alt_name(index(&at.dev)?, name),
            Op::SetMac { at, mac } => {
                if let Some(macs) = &mut context.link_locals {
                    macs.insert(at.dev, *mac);
                }
                encode::set_mac(index(&at.dev)?, *mac)
            }
            Op::SetMtu { at: end, mtu } => {
                let index = index(&end.dev)?;
                let (request, flags) = encode::set_mtu(index, mtu.get());
                self.batch.push(sequence(at), flags, request);
                // An interface that has been too small for IPv6 gets a link-local address from the kernel at once, and it
                // would be tentative.
                if context.returning.contains(&end.dev)
                    && let Some(mac) = context.mac_for_link_local(end.dev)
                    && let Some((request, flags)) = encode::add_link_local(index, mac)
                {
                    if let Some((request, flags)) = encode::del_link_local(index, mac) {
                        self.batch.push(OPTIONAL, flags, request);
                    }
                    self.batch.push(OPTIONAL, flags, request);
                }
                return Ok(());
            }
            Op::SetMaster { at, master } => {
                encode::set_master(index(&at.dev)?, master.as_ref().map(index).transpose()?)
            }
            Op::SetUp { at, up } => {
                let index = index(&at.dev)?;
                if *up && context.link_locals.is_none() && at.dev != IfName::LO {
                    let (request, flags) = encode::no_link_local(index);
                    self.batch.push(OPTIONAL, flags, request);
                }
                if *up
                    && let Some(mac) = context.mac_for_link_local(at.dev)
                    && let Some((request, flags)) = encode::add_link_local(index, mac)
                {
                    self.batch.push(OPTIONAL, flags, request);
                }
                encode::set_up(index, *up)
            }
            Op::AddAddr { at, addr } => {
                let index = index(&at.dev)?;
                // One that came up when there was no IPv6 has none yet.
                if addr.addr().is_ipv6()
                    && !context.rising.contains(&at.dev)
                    && let Some(mac) = context.mac_for_link_local(at.dev)
                    && let Some((request, flags)) = encode::add_link_local(index, mac)
                {
                    self.batch.push(OPTIONAL, flags, request);
                }
                encode::add_addr(index, *addr)
            }
            Op::DelAddr { at: end, addr } => {
                let index = index(&end.dev)?;
                if context.promotions.needed(space, &mut self.inbox, index, *addr)? {
                    let before = encode::set_promote_secondaries(index, true);
                    let after = encode::set_promote_secondaries(index, false);
                    for (request, flags) in [before, encode::del_addr(index, *addr), after] {
                        self.batch.push(sequence(at), flags, request);
                    }
                    return Ok(());
                }
                encode::del_addr(index, *addr)
            }
            Op::SetRoute { route, .. } => encode::set_route(route, |dev| index(&dev))?,
            Op::DelRoute { key, .. } => encode::del_route(key),
            Op::SetNeigh { at, addr, mac } => encode::set_neigh(index(&at.dev)?, *addr, *mac),
            Op::DelNeigh { at, addr } => encode::del_neigh(index(&at.dev)?, *addr),
            // Of other phases, or done already.
            Op::AddNs(_)
            | Op::DelNs(_)
            | Op::SetSysctl { .. }
            | Op::SetNat { .. }
            | Op::DelNat(_)
            | Op::AddBridge(_)
            | Op::AddVeth { .. }
            | Op::TakeLink(_)
            | Op::ReturnLink(_)
            | Op::DelLink(_) => return Ok(()),
        };
        self.batch.push(sequence(at), flags, request);
        Ok(())
    }
}

/// Replaces the table that translates addresses, whatever is in it, or removes it.
fn set_nat(space: &Netns, nat: Option<&Nat>) -> Result<(), Refusal> {
    namespace::enter(space.socket.namespace()?)?;
    let table = TableName::inet(Nat::TABLE);
    let mut transaction = Transaction::new();
    match nat {
        Some(nat) => {
            transaction.replace_table(&table, Owner::Nobody);
            transaction.add_chains(&nat.chains());
        }
        None => transaction.delete_table(&table),
    }
    NftSocket::open_here()?.submit(transaction)
}

/// What is known of the namespace that is being configured.
struct Context<'a> {
    name: &'a NsName,
    space: &'a Netns,
    links: &'a LinkTable,
    promotions: Promotions,
    /// Where IPv6 is in use: Ethernet addresses that have been set meanwhile.
    link_locals: Option<BTreeMap<IfName, MacAddr>>,
    /// What is set up.
    rising: BTreeSet<IfName>,
    /// What is up, and gets an address of IPv6.
    returning: BTreeSet<IfName>,
}

impl Context<'_> {
    fn mac_for_link_local(&self, dev: IfName) -> Option<MacAddr> {
        let set = self.link_locals.as_ref()?;
        set.get(&dev).copied().or_else(|| self.links.mac(dev)).filter(|mac| mac.bytes() != [0; 6])
    }
}

/// Which removals of an IPv4 address would take others with them.
///
/// The first address of a network on an interface is its primary one, and when that goes so do the
/// others, unless the interface promotes them (ip-sysctl: `promote_secondaries`).
#[derive(Default)]
struct Promotions {
    /// Read when first needed: addresses that have others depend on them, on interfaces that do not
    /// promote.
    fragile: Option<BTreeSet<(IfIndex, IpNet)>>,
}

impl Promotions {
    fn needed(&mut self, space: &Netns, inbox: &mut Inbox, index: IfIndex, addr: IpNet) -> Result<bool, Refusal> {
        if addr.addr().is_ipv6() {
            return Ok(false);
        }
        if self.fragile.is_none() {
            self.fragile = Some(read_fragile(space, inbox)?);
        }
        // A promoted address may have become the primary one of those that are left.
        let of_network = |(on, other): &(IfIndex, IpNet)| *on == index && other.trunc() == addr.trunc();
        Ok(self.fragile.as_ref().is_some_and(|fragile| fragile.iter().any(of_network)))
    }
}

fn read_fragile(space: &Netns, inbox: &mut Inbox) -> Result<BTreeSet<(IfIndex, IpNet)>, Refusal> {
    let promoting: BTreeSet<IfIndex> = super::observe::read_links(&space.socket, inbox)?
        .iter()
        .filter(|link| link.promotes_secondaries)
        .map(|link| link.index)
        .collect();
    let addresses = space.socket.ask(encode::get_addresses(Some(Family::Ipv4)), super::observe::DUMP, inbox)?;
    Ok(addresses
        .iter()
        .filter_map(decode::address)
        .filter(|found| found.secondary && !promoting.contains(&found.index))
        .map(|found| (found.index, found.addr))
        .collect())
}
