//! What a node does with a packet that is for itself.

use hopyard_net::{Family, Habits, Hook, IfName, NextHop, NodeState, NsName};

use super::{State, Walker};
use crate::filter::Level;
use crate::{Packet, Protocol, Reason};

impl Walker<'_> {
    /// What the node does with what is for itself.
    pub(super) fn deliver(&self, node: &NodeState, state: &State) -> Option<Reason> {
        // Who has the address may have sent it on to another node.
        let sent_on =
            |wanted: &NsName| state.translations.iter().any(|it| it.node == *wanted && it.before.dst != it.after.dst);
        if let Some(wanted) = self.wanted
            && *wanted != state.at
            && !sent_on(wanted)
        {
            return Some(Reason::WrongNode { wanted: wanted.clone() });
        }
        if state.input.is_none() {
            // From itself to itself, through `lo`.
            let lo = node.links.get(&IfName::LO).is_some_and(|lo| lo.up);
            if !lo {
                return Some(Reason::LinkDown(IfName::LO));
            }
            let lo = IfName::LO;
            let by = NextHop { via: None, dev: lo, weight: 1 };
            let mut state = state.clone();
            for (level, hook, input, output) in [
                (Level::Ip, Hook::Output, None, Some(&by)),
                (Level::Ip, Hook::Postrouting, None, Some(&by)),
                (Level::Device, Hook::Egress, None, Some(&by)),
                (Level::Device, Hook::Ingress, Some(lo), None),
                (Level::Ip, Hook::Prerouting, Some(lo), None),
            ] {
                let before = state.packet;
                let filtered = self.filter(node, &mut state, level, hook, input, output);
                if filtered.is_some() {
                    return filtered;
                }
                if state.packet != before {
                    return Some(Reason::Undecided("it is translated on its way to the node itself".to_owned()));
                }
            }
        }
        self.filter(node, &mut state.clone(), Level::Ip, Hook::Input, state.input.or(Some(IfName::LO)), None)
            .or_else(|| listening(node, &state.packet))
            .or_else(|| ignored(node, &state.packet))
    }
}

/// Is it a ping that the node is told not to answer?
fn ignored(node: &NodeState, packet: &Packet) -> Option<Reason> {
    let is_ping = packet.protocol == Protocol::Icmp && !packet.reply && !packet.too_big;
    let family = packet.family();
    let ignores = is_ping && node.habits.is_some_and(|habits| habits.ignores_echo_of(family));
    ignores.then(|| Reason::EchoIgnored { key: Habits::echo_key(family) })
}

/// Does something wait for it? `None`: yes, or nobody looked.
fn listening(node: &NodeState, packet: &Packet) -> Option<Reason> {
    if packet.protocol == Protocol::Icmp || packet.reply {
        return None;
    }
    let listeners = node.listeners.as_ref()?;
    let tcp = packet.protocol == Protocol::Tcp;
    let family = packet.family();
    let takes_family = |it: &hopyard_net::Listener| {
        it.family == family || family == Family::Ipv4 && !it.only_ipv6 && it.addr.is_none()
    };
    let same_port = listeners.iter().filter(|it| it.tcp == tcp && it.port == packet.destination_port);
    let mut other = None;
    for it in same_port {
        if takes_family(it) && it.addr.is_none_or(|addr| addr == packet.dst) {
            let beyond = || Reason::Undecided(format!("the socket at port {} is bound to an interface", it.port));
            return it.bound_to_device.then(beyond);
        }
        other.get_or_insert(*it);
    }
    Some(match other {
        Some(listener) => Reason::WrongBindAddress { listener },
        None => Reason::NoListener { others: listeners.iter().filter(|it| it.tcp == tcp).copied().collect() },
    })
}
