//! New namespaces, with the settings that they have from the start.
//!
//! A new one has `conf.all` and `conf.default` of IPv4 as the machine's first one has them in that very moment
//! (`net.core.devconf_inherit_init_net`), and there distributions, administrators and daemons have set which sources are
//! believed, who answers ARP, who tells of a better way. A lab shall be the same on every machine, so each gets the
//! kernel's own values, before it has an interface. Of much of `all` only files tell, and to read them costs a tenth of a
//! node. So they are read before the first namespace of a thread and behind its last one, and in each of them if something
//! was changed meanwhile; not in the new ones, where that is dear, but in the machine's, if it is seen.

use hopyard_net::{ConfOf, Ipv4Setting, NsName, SysctlKey};

use super::apply::Failures;
use crate::error::Refusal;
use crate::links::LOOPBACK;
use crate::netconf::{self, Told};
use crate::netlink::{Batch, Inbox, RtSocket};
use crate::sysctl::{Ipv4ConfFiles, Ipv4SettingFile, SysctlFiles};
use crate::{encode, namespace};

/// A namespace that is to be made, and the sysctls that it is to have from the start.
pub(super) struct SpacePlan<'a> {
    pub(super) at: usize,
    pub(super) name: &'a NsName,
    pub(super) sysctls: Vec<(usize, &'a SysctlKey, &'a str)>,
}

impl SpacePlan<'_> {
    fn sets(&self, key: &SysctlKey) -> bool {
        self.sysctls.iter().any(|(_, set, _)| *set == key)
    }

    /// Whether it forwards IPv4, and which operation says so. What is no number, the kernel shall refuse.
    fn forwarding(&self) -> Option<(usize, i32)> {
        let said = self.sysctls.iter().find(|(_, key, _)| **key == SysctlKey::IPV4_FORWARD);
        said.and_then(|(at, _, value)| Some((*at, value.trim().parse().ok()?)))
    }
}

pub(super) struct Made<'a> {
    pub(super) name: &'a NsName,
    pub(super) socket: Option<RtSocket>,
    pub(super) failures: Failures,
}

/// The settings that no socket tells, open.
pub(super) struct UntoldFiles(Vec<(ConfOf, &'static Ipv4Setting, Ipv4SettingFile)>);

impl UntoldFiles {
    /// Of the machine, if new namespaces take their settings from there.
    pub(super) fn of_machine() -> Option<UntoldFiles> {
        Ipv4ConfFiles::of_machine().map(|files| UntoldFiles::open(&files))
    }

    fn open(files: &Ipv4ConfFiles) -> UntoldFiles {
        let of_all = Ipv4Setting::ALL.iter().filter(|it| it.all.is_some() && !netconf::tells(it));
        let of_default = Ipv4Setting::ALL.iter().filter(|it| is_loopbacks_own(it));
        let untold = of_all.map(|it| (ConfOf::All, it)).chain(of_default.map(|it| (ConfOf::Default, it)));
        UntoldFiles(untold.filter_map(|(of, it)| Some((of, it, files.open_to_read(of, it)?))).collect())
    }

    fn read(&self) -> Vec<Value> {
        self.0.iter().filter_map(|(of, setting, file)| Some((*of, *setting, file.read()?))).collect()
    }
}

/// A setting as it is.
type Value = (ConfOf, &'static Ipv4Setting, i32);

/// Makes namespaces, and leaves the calling thread in the last one.
pub(super) struct Maker<'p, 'a> {
    inbox: Inbox,
    files: SysctlFiles,
    /// Has the thread looked at files of the namespace in which it is?
    has_arrived: bool,
    machine: Option<&'p UntoldFiles>,
    /// What new ones have, as far as it has been read: by files, and by what `lo` has of `default`.
    untold: Option<Vec<Value>>,
    of_loopback: Option<Vec<Value>>,
    made: Vec<(&'p SpacePlan<'a>, Made<'a>)>,
}

impl<'p, 'a> Maker<'p, 'a> {
    pub(super) fn new(files: SysctlFiles, machine: Option<&'p UntoldFiles>) -> Self {
        Maker {
            inbox: Inbox::default(),
            files,
            has_arrived: false,
            machine,
            untold: machine.map(UntoldFiles::read),
            of_loopback: None,
            made: Vec::new(),
        }
    }

    pub(super) fn make(&mut self, plan: &'p SpacePlan<'a>) {
        self.has_arrived = false;
        let mut failures = Failures::new();
        let socket = namespace::create().and_then(|()| RtSocket::open()).map_err(|error| (plan.at, error.into()));
        let socket = socket.and_then(|socket| self.set(plan, &socket, &mut failures).map(|()| socket));
        let socket = socket.map_err(|failure| failures.push(failure)).ok();
        self.made.push((plan, Made { name: plan.name, socket, failures }));
    }

    /// All that were made.
    pub(super) fn finish(mut self) -> Vec<Made<'a>> {
        let mut made = std::mem::take(&mut self.made);
        if let Some((plan, Made { socket: Some(socket), .. })) = made.last()
            && self.has_changed(made.len(), plan, socket)
        {
            for (plan, made) in &mut made {
                let again = made.socket.as_ref().map_or(Ok(()), |socket| self.set_again(plan, socket));
                if let Err(failure) = again {
                    made.failures.push(failure);
                    made.socket = None;
                }
            }
        }
        made.into_iter().map(|(_, made)| made).collect()
    }

    /// Sets what the plan says, and what it leaves to the kernel. An error means that the namespace is of no use.
    fn set(
        &mut self,
        plan: &SpacePlan<'_>,
        socket: &RtSocket,
        failures: &mut Failures,
    ) -> Result<(), (usize, Refusal)> {
        let failed = |refusal| (plan.at, refusal);
        // Asked in each: containers and other labs make the machine forward, or stop it.
        let told = self.ask(socket).map_err(failed)?;
        let of_loopback = match self.of_loopback.take() {
            Some(known) => known,
            None => self.read_loopback(socket).map_err(failed)?,
        };
        let untold = self.untold.take().unwrap_or_else(|| self.read_untold());
        let deviations = deviations(plan, &told, of_loopback.iter().chain(&untold));
        (self.of_loopback, self.untold) = (Some(of_loopback), Some(untold));
        self.set_back(plan, socket, &deviations)?;
        for (at, key, value) in &plan.sysctls {
            // A write costs a twentieth of a node, and most nodes are no routers.
            let is_done = match *key {
                key if *key == SysctlKey::IPV4_FORWARD => plan.forwarding().is_some(),
                key if *key == SysctlKey::IPV6_FORWARD => self.forwards_ipv6(socket, value),
                _ => false,
            };
            if !is_done && let Err(errno) = self.files().write(key, value) {
                failures.push((*at, errno.into()));
            }
        }
        Ok(())
    }

    /// Is that what both parts of the switch say?
    fn forwards_ipv6(&mut self, socket: &RtSocket, value: &str) -> bool {
        ConfOf::BOTH.into_iter().all(|of| {
            let found = netconf::ipv6_forwarding(socket, of, &mut self.inbox);
            matches!(found, Ok(Some(found)) if found.to_string() == value)
        })
    }

    /// What its socket tells of a namespace, for all and for those to come.
    fn ask(&mut self, socket: &RtSocket) -> Result<[Told; 2], Refusal> {
        let [all, default] = ConfOf::BOTH.map(|of| Told::ask(socket, of, &mut self.inbox));
        Ok([all?, default?])
    }

    /// What `lo` has, which is what `default` had when the namespace was made.
    fn read_loopback(&mut self, socket: &RtSocket) -> Result<Vec<Value>, Refusal> {
        let found = netconf::of_loopback(socket, &mut self.inbox)?;
        let settings = Ipv4Setting::ALL.iter().filter(|it| !netconf::tells(it) && !is_loopbacks_own(it));
        let value = |setting: &Ipv4Setting| found.get(usize::from(setting.number).checked_sub(1)?).copied();
        Ok(settings.filter_map(|it| Some((ConfOf::Default, it, value(it)?))).collect())
    }

    /// From the files of the namespace in which the thread is. What may not be read, nobody can set right either.
    fn read_untold(&mut self) -> Vec<Value> {
        self.files().ipv4_conf().map(|files| UntoldFiles::open(&files).read()).unwrap_or_default()
    }

    /// Is it other than it was at first? Asked in the last namespace, of `made`.
    fn has_changed(&mut self, made: usize, plan: &SpacePlan<'_>, socket: &RtSocket) -> bool {
        let untold = match self.machine.map(UntoldFiles::read) {
            Some(now) if self.untold.as_ref() != Some(&now) => return true,
            Some(_) => Vec::new(),
            // It was looked at.
            None if made == 1 => return false,
            None => self.read_untold(),
        };
        let (Ok(told), Ok(of_loopback)) = (self.ask(socket), self.read_loopback(socket)) else { return false };
        !deviations(plan, &told, of_loopback.iter().chain(&untold)).is_empty()
    }

    fn set_again(&mut self, plan: &SpacePlan<'_>, socket: &RtSocket) -> Result<(), (usize, Refusal)> {
        let failed = |refusal| (plan.at, refusal);
        socket.namespace().and_then(namespace::enter).map_err(|error| failed(error.into()))?;
        self.has_arrived = false;
        let told = self.ask(socket).map_err(failed)?;
        let of_loopback = self.read_loopback(socket).map_err(failed)?;
        let untold = self.read_untold();
        self.set_back(plan, socket, &deviations(plan, &told, of_loopback.iter().chain(&untold)))
    }

    fn set_back(
        &mut self,
        plan: &SpacePlan<'_>,
        socket: &RtSocket,
        deviations: &[Deviation],
    ) -> Result<(), (usize, Refusal)> {
        if deviations.is_empty() {
            return Ok(());
        }
        let files = self.files().ipv4_conf();
        for Deviation { of, setting, wanted } in deviations {
            let written = files.as_ref().map_err(|errno| *errno).and_then(|files| files.write(*of, setting, *wanted));
            let said = plan.forwarding().filter(|_| **setting == Ipv4Setting::FORWARDING);
            let doing = || format!("set {} = {wanted} in {}", setting.key(*of), plan.name);
            written.map_err(|errno| {
                let of_ours = || (plan.at, Refusal { doing: Some(doing()), ..errno.into() });
                said.map_or_else(of_ours, |(at, _)| (at, errno.into()))
            })?;
        }
        // The only interface that there is took its values before. It follows `default`, but where somebody has set that of
        // the machine (`devinet_copy_dflt_conf()` of Linux).
        let of_loopback: Vec<(u16, i32)> = deviations
            .iter()
            .filter(|it| it.of == ConfOf::Default && !is_loopbacks_own(it.setting))
            .map(|it| (it.setting.number, it.wanted))
            .collect();
        if !of_loopback.is_empty() {
            let mut batch = Batch::default();
            let (request, flags) = encode::set_ipv4_conf(LOOPBACK, &of_loopback);
            batch.push(1, flags, request);
            let mut refused = None;
            let sent = socket.submit(&mut batch, &mut self.inbox, &mut |_, refusal| refused = Some(refusal));
            sent.map_err(Refusal::from).and(refused.map_or(Ok(()), Err)).map_err(|refusal| (plan.at, refusal))?;
        }
        Ok(())
    }

    /// The sysctls of the namespace in which the thread is.
    fn files(&mut self) -> &SysctlFiles {
        if !std::mem::replace(&mut self.has_arrived, true) {
            self.files.arrive();
        }
        &self.files
    }
}

/// What is to be set.
struct Deviation {
    of: ConfOf,
    setting: &'static Ipv4Setting,
    wanted: i32,
}

/// `told`: of `all`, and of `default`.
fn deviations<'v>(plan: &SpacePlan<'_>, told: &[Told; 2], untold: impl Iterator<Item = &'v Value>) -> Vec<Deviation> {
    let forwards = plan.forwarding().map_or(0, |(_, value)| value);
    let [of_all, of_default] = told.each_ref().map(|told| told.value(&Ipv4Setting::FORWARDING) == Some(forwards));
    // First, for with `all` go `default` and whether redirects are accepted (`inet_forward_change()` of Linux). To write
    // there what is there already changes nothing.
    let forwarding = match (of_all, of_default) {
        (false, _) => Some(ConfOf::All),
        (true, false) => Some(ConfOf::Default),
        (true, true) => None,
    };
    let forwarding = forwarding.map(|of| Deviation { of, setting: &Ipv4Setting::FORWARDING, wanted: forwards });
    let told = ConfOf::BOTH.into_iter().zip(told).flat_map(|(of, told)| {
        Ipv4Setting::ALL.iter().filter_map(move |setting| Some((of, setting, told.value(setting)?)))
    });
    let others = told.chain(untold.copied()).filter_map(|(of, setting, found)| {
        let wanted = match of {
            ConfOf::All if *setting == Ipv4Setting::ACCEPT_REDIRECTS && of_all => i32::from(forwards == 0),
            ConfOf::All if *setting == Ipv4Setting::ACCEPT_REDIRECTS => return None,
            of => setting.value(of)?,
        };
        (found != wanted).then_some(Deviation { of, setting, wanted })
    });
    forwarding.into_iter().chain(others).filter(|it| !plan.sets(&it.setting.key(it.of))).collect()
}

/// Has `lo` a value of its own, whatever `default` says (`inetdev_event()` of Linux)?
fn is_loopbacks_own(setting: &Ipv4Setting) -> bool {
    matches!(setting.name, "disable_xfrm" | "disable_policy")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;

    use super::*;
    use crate::Realm;

    /// All of `net.ipv4.conf` here, by its name below that.
    fn all_conf() -> BTreeMap<String, String> {
        let mut values = BTreeMap::new();
        for of in ["all", "default", "lo"] {
            for file in fs::read_dir(format!("/proc/sys/net/ipv4/conf/{of}")).into_iter().flatten().flatten() {
                let value = fs::read_to_string(file.path()).unwrap_or_default().trim().to_owned();
                values.insert(format!("{of}/{}", file.file_name().display()), value);
            }
        }
        values
    }

    /// As machines have it that a person has set up: everything otherwise.
    fn set_odd() -> Vec<String> {
        let mut refused = Vec::new();
        for setting in [&Ipv4Setting::FORWARDING].into_iter().chain(&Ipv4Setting::ALL) {
            for of in ["all", "default", "lo"] {
                let own = if of == "all" { setting.all.unwrap_or_default() } else { setting.default };
                let odd = if matches!(own, 0 | 1) { 1 - own } else { own + 1 };
                let path = format!("/proc/sys/net/ipv4/conf/{of}/{}", setting.name);
                if fs::write(&path, odd.to_string()).is_err() {
                    refused.push(path);
                }
            }
        }
        refused
    }

    fn in_new_namespaces<R: Send>(test: impl FnOnce() -> R + Send) -> Option<R> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: an ordinary user");
            return None;
        }
        Some(Realm::host().run(test).unwrap())
    }

    #[test]
    fn what_was_inherited_is_set_back() {
        let name: NsName = "r".parse().unwrap();
        let arp = Ipv4Setting::ALL.iter().find(|it| it.name == "arp_ignore").unwrap().key(ConfOf::All);
        for forwards in ["0", "1"] {
            let sysctls = vec![(1, &SysctlKey::IPV4_FORWARD, forwards), (2, &arp, "2")];
            let plan = SpacePlan { at: 0, name: &name, sysctls };
            let test = || {
                namespace::create().unwrap();
                let socket = RtSocket::open().unwrap();
                let mut failures = Failures::new();
                let mut set =
                    || Maker::new(SysctlFiles::new(None, 0), None).set(&plan, &socket, &mut failures).unwrap();
                set();
                let wanted = all_conf();
                let refused = set_odd();
                let odd = all_conf();
                set();
                (wanted, refused, odd, all_conf(), failures)
            };
            let Some((mut wanted, refused, odd, mut again, failures)) = in_new_namespaces(test) else { return };
            assert_eq!((refused, failures), (Vec::new(), Failures::new()));
            assert_eq!((&*wanted["all/forwarding"], &*wanted["all/arp_ignore"]), (forwards, "2"));
            assert!(odd["lo/rp_filter"] == "1" && odd["all/accept_local"] == "1" && odd["default/shared_media"] == "0");
            // What decides nothing in `all`, and what `lo` has by itself.
            for values in [&mut wanted, &mut again] {
                for setting in Ipv4Setting::ALL.iter().filter(|it| it.all.is_none()) {
                    values.remove(&format!("all/{}", setting.name));
                }
                values.retain(|name, _| !matches!(name.as_str(), "lo/disable_xfrm" | "lo/disable_policy"));
            }
            assert_eq!(again, wanted, "forwarding {forwards}");
        }
    }

    #[test]
    fn what_changes_meanwhile_is_set_back_in_all() {
        let names: Vec<NsName> = ["a", "b", "c"].iter().map(|name| name.parse().unwrap()).collect();
        let plan = |at: usize| SpacePlan { at, name: &names[at], sysctls: Vec::new() };
        let plans: Vec<SpacePlan<'_>> = (0..names.len()).map(plan).collect();
        let test = || {
            let mut maker = Maker::new(SysctlFiles::new(None, 0), None);
            for plan in &plans {
                maker.make(plan);
                // As if the machine had it so since the second one.
                if plan.at > 0 {
                    fs::write("/proc/sys/net/ipv4/conf/all/arp_ignore", "1").unwrap();
                }
            }
            let mut found = Vec::new();
            for Made { socket, failures, .. } in maker.finish() {
                namespace::enter(socket.unwrap().namespace().unwrap()).unwrap();
                found.push((all_conf().remove("all/arp_ignore").unwrap(), failures));
            }
            found
        };
        let Some(found) = in_new_namespaces(test) else { return };
        assert_eq!(found, vec![("0".to_owned(), Failures::new()); 3]);
    }

    #[test]
    fn the_machine_has_what_a_new_namespace_has() {
        let Some(machine) = UntoldFiles::of_machine() else {
            println!("skipped: the machine's first namespace is not seen from here");
            return;
        };
        let there = machine.read();
        assert!(there.iter().any(|(of, it, _)| (*of, it.name) == (ConfOf::All, "arp_ignore")));
        assert!(there.iter().any(|(of, it, _)| (*of, it.name) == (ConfOf::Default, "disable_policy")));
        let test = || {
            namespace::create().unwrap();
            (Maker::new(SysctlFiles::new(None, 0), None).read_untold(), machine.read())
        };
        let Some((here, there_from_here)) = in_new_namespaces(test) else { return };
        assert_eq!(here, there);
        assert_eq!(there_from_here, there, "it is read where it was opened");
    }
}
