//! A node whose namespace is somebody else's, a container's: what is there, and is not the lab's.

use hopyard_net::{IfName, Ipv4Setting, NsState, SysctlKey};

/// Has the interfaces take the addresses of IPv6 that they shall have. In a container they may not: Docker turns IPv6 off
/// there, for all interfaces to come, where the container's network has none.
pub fn take_ipv6(wanted: &mut NsState) {
    for (dev, _) in wanted.links.iter().filter(|(_, link)| link.has_ipv6()) {
        wanted.sysctls.entry(SysctlKey::disable_ipv6(*dev)).or_insert_with(|| "0".to_owned());
    }
}

/// The settings of `found` that the lab is about to change, as they are: for when it leaves. Those of an interface which the
/// lab has made go with that.
pub fn settings_before<'a>(
    found: &'a NsState,
    ours: &'a NsState,
    wanted: &'a NsState,
) -> impl Iterator<Item = (SysctlKey, String)> + 'a {
    let is_ours = |key: &SysctlKey| {
        let dev = key.interface().and_then(|name| name.parse::<IfName>().ok());
        dev.is_some_and(|dev| dev != IfName::LO && ours.links.contains_key(&dev))
    };
    let changes = |(key, value): &(&SysctlKey, &String)| wanted.sysctls.get(*key).is_some_and(|want| want != *value);
    found
        .sysctls
        .iter()
        .filter(changes)
        .filter(move |(key, _)| !is_ours(key))
        .map(|(key, value)| (key.clone(), value.clone()))
}

/// Leaves out of `found` what is neither in `ours`, which is what the lab has made there, nor wanted; and out of
/// `wanted` the routes for which the other has one of its own, for those stand. What is left is compared as ever.
///
/// # Errors
/// The interface that both want to be of that name.
pub fn set_aside(found: &mut NsState, ours: &NsState, wanted: &mut NsState) -> Result<(), IfName> {
    let is_ours = |dev: IfName| dev == IfName::LO || ours.links.contains_key(&dev);
    if let Some(taken) = wanted.links.keys().find(|dev| !is_ours(**dev) && found.links.contains_key(*dev)) {
        return Err(*taken);
    }
    found.links.retain(|dev, _| is_ours(*dev));
    if let Some(lo) = found.links.get_mut(&IfName::LO) {
        let of = |state: &NsState, addr: &hopyard_net::IpNet| {
            state.links.get(&IfName::LO).is_some_and(|lo| lo.addresses.contains(addr))
        };
        lo.addresses.retain(|addr| of(ours, addr) || of(wanted, addr));
        lo.alt_names.clear();
    }
    // Through an interface of ours a route is ours, whoever made it.
    let own_dev = |dev: IfName| dev != IfName::LO && ours.links.contains_key(&dev);
    found.routes.retain(|key, route| {
        let hops = route.next_hops();
        let ours = ours.routes.contains_key(key) || (!hops.is_empty() && hops.iter().all(|hop| own_dev(hop.dev)));
        if !ours {
            wanted.routes.remove(key);
        }
        ours
    });
    found.neighbours.retain(|(dev, _), _| own_dev(*dev));
    // What it has of the machine, or was started with.
    found.sysctls.retain(|key, _| Ipv4Setting::value_of(key).is_none() || wanted.sysctls.contains_key(key));
    Ok(())
}

/// All that is, or was, or may be half made, the lab's: from before a change on, until it is done.
pub fn both(mut before: NsState, after: &NsState) -> NsState {
    for (dev, link) in &after.links {
        let known = before.links.entry(*dev).or_insert_with(|| link.clone());
        known.addresses.extend(&link.addresses);
    }
    before.routes.extend(after.routes.clone());
    before.neighbours.extend(after.neighbours.clone());
    before.nat = after.nat.clone().or(before.nat);
    before
}

#[cfg(test)]
mod tests {
    use hopyard_net::{Link, LinkKind, NextHop, Route};

    use super::*;

    fn dev(name: &str) -> IfName {
        name.parse().unwrap()
    }

    fn with(devs: &[&str], routes: &[(&str, &str)]) -> NsState {
        let mut state = NsState::default();
        for name in devs {
            state.links.insert(dev(name), Link::new(LinkKind::Veth { peer: None }));
        }
        for (prefix, over) in routes {
            let hop = NextHop { via: None, dev: dev(over), weight: 1 };
            let route = Route::unicast(prefix.parse().unwrap(), vec![hop]);
            state.routes.insert(route.key.clone(), route);
        }
        state
    }

    #[test]
    fn what_the_container_has_of_its_own_stands() {
        let own = [("0.0.0.0/0", "eth0"), ("10.88.0.0/16", "eth0")];
        let mut found =
            with(&["eth0", "lab0"], &[&own[..], &[("10.1.0.0/16", "lab0"), ("10.9.0.0/16", "lab0")]].concat());
        let ours = with(&["lab0"], &[("10.1.0.0/16", "lab0")]);
        let mut wanted = with(&["lab0", "lab1"], &[("0.0.0.0/0", "lab0"), ("10.1.0.0/16", "lab0")]);
        set_aside(&mut found, &ours, &mut wanted).unwrap();
        // The route that somebody has added over our interface is compared, and goes.
        assert_eq!(found, with(&["lab0"], &[("10.1.0.0/16", "lab0"), ("10.9.0.0/16", "lab0")]));
        assert_eq!(wanted, with(&["lab0", "lab1"], &[("10.1.0.0/16", "lab0")]));
    }

    #[test]
    fn where_ipv6_is_off_it_is_turned_on_and_off_again() {
        let value = |on: &str| on.to_owned();
        let mut wanted = with(&["lab0", "lab1"], &[]);
        wanted.links.get_mut(&dev("lab0")).unwrap().addresses.insert("fd00::1/64".parse().unwrap());
        wanted.links.get_mut(&IfName::LO).unwrap().addresses.insert("fd00::2/128".parse().unwrap());
        take_ipv6(&mut wanted);
        let keys = [IfName::LO, dev("lab0")].map(SysctlKey::disable_ipv6);
        assert_eq!(wanted.sysctls.keys().collect::<Vec<_>>(), [&keys[1], &keys[0]], "lab1 needs none");
        // Before the first change the container has `lo` alone, later also what is the lab's.
        let mut found = with(&[], &[]);
        found.sysctls.extend(keys.clone().map(|key| (key, value("1"))));
        let before = |ours| settings_before(&found, ours, &wanted).collect::<Vec<_>>();
        assert_eq!(before(&wanted), [(keys[0].clone(), value("1"))]);
        let ops = crate::diff(
            &hopyard_net::NetState { namespaces: [("n".parse().unwrap(), found.clone())].into() },
            &hopyard_net::NetState { namespaces: [("n".parse().unwrap(), wanted.clone())].into() },
        );
        let at = |text: &str| ops.iter().position(|op| op.to_string().contains(text)).unwrap();
        assert!(at("lo.disable_ipv6=0") < at("fd00::2/128"), "{ops:?}");
    }

    #[test]
    fn what_the_container_has_of_the_machine_stands() {
        let keys: [SysctlKey; 2] =
            ["net.ipv4.conf.all.rp_filter", "net.ipv4.conf.all.proxy_arp"].map(|key| key.parse().unwrap());
        let [mut found, mut wanted] = [with(&[], &[]), with(&[], &[])];
        found.sysctls.extend(keys.clone().map(|key| (key, "1".to_owned())));
        wanted.sysctls.insert(keys[1].clone(), "0".to_owned());
        set_aside(&mut found, &NsState::default(), &mut wanted).unwrap();
        assert_eq!(found.sysctls.keys().collect::<Vec<_>>(), [&keys[1]]);
    }

    #[test]
    fn two_interfaces_of_one_name_cannot_be() {
        let mut found = with(&["eth0"], &[]);
        let mut wanted = with(&["eth0"], &[]);
        assert_eq!(set_aside(&mut found, &NsState::default(), &mut wanted), Err(dev("eth0")));
        assert_eq!(set_aside(&mut found, &wanted.clone(), &mut wanted), Ok(()));
    }
}
