//! The names of the reasons, which do not change: for programs, for a table in the documentation, for lessons.

use std::fmt;

/// Makes the enum, its list and its texts from one list, so that they cannot differ.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal;)+) => {
        /// The name of a reason. A name does not change its meaning, and none is taken away.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Code] = &[$(Code::$name),+];

            /// As programs read it.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Code::$name => $text,)+
                }
            }
        }
    };
}

codes! {
    /// No route, on the way there.
    NoRoute = "no-route";
    /// No route, on the way back.
    NoReturnRoute = "no-return-route";
    /// A route swallows it.
    Blackhole = "blackhole";
    /// A route refuses it.
    Unreachable = "unreachable";
    /// A route forbids it.
    Prohibit = "prohibit";
    /// A policy rule refuses it.
    PolicyRule = "policy-rule";
    /// The node does not forward.
    ForwardingOff = "forwarding-off";
    /// It was sent to a node that neither has the address nor forwards.
    NotAnOwner = "not-an-owner";
    /// The way back to its source leads elsewhere.
    RpFilter = "rp-filter";
    /// It comes from outside with an address of the node's own.
    LocalSource = "local-source";
    /// The node has no address to send from, or does not forward what comes from that address.
    SourceAddress = "source-address";
    /// The interface by which it would leave is down.
    LinkDown = "link-down";
    /// The other end of the link is down.
    NoCarrier = "no-carrier";
    /// Nobody answers for the next hop.
    NeighbourUnresolved = "neighbour-unresolved";
    /// Who has the next hop's address keeps silent.
    ArpRefused = "arp-refused";
    /// The destination is taken for a neighbour.
    WrongMask = "wrong-mask";
    /// Several have the next hop's address.
    DuplicateAddress = "duplicate-address";
    /// Several have the Ethernet address that the frame is for.
    DuplicateMac = "duplicate-mac";
    /// Somebody has set a wrong Ethernet address.
    WrongStaticNeighbour = "wrong-static-neighbour";
    /// What was learnt of the neighbour is out of date.
    StaleNeighbour = "stale-neighbour";
    /// A rule or a policy of the firewall.
    Firewall = "firewall";
    /// A rule about packets, of a switch that frames cross.
    FirewallBridge = "firewall-bridge";
    /// It is too long for the interface.
    Mtu = "mtu";
    /// It is too long for the interface, and its sender is never told.
    PmtudBlackhole = "pmtud-blackhole";
    /// It is too long for the other end.
    MtuMismatch = "mtu-mismatch";
    /// It goes round in a circle.
    TtlLoop = "ttl-loop";
    /// Its hops are used up.
    TtlExpired = "ttl-expired";
    /// Nothing waits for it.
    NoListener = "no-listener";
    /// What waits for it has another address.
    WrongBindAddress = "wrong-bind-address";
    /// It is a ping, and the node is told to answer none.
    EchoIgnored = "echo-ignored";
    /// It comes to another node.
    WrongNode = "wrong-node";
    /// Its answer comes to another node.
    ReturnToWrongNode = "return-to-wrong-node";
    /// It leaves what can be seen.
    LeavesKnown = "leaves-known";
    /// What decides is not understood.
    Undecided = "undecided";
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::Code;

    #[test]
    fn every_code_has_a_name_of_its_own() {
        let names: BTreeSet<&str> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(names.len(), Code::ALL.len());
        assert!(names.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')));
    }
}
