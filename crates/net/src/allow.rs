//! What a process in a sandbox may reach: `example.org:443`, `10.0.0.0/8`, `[fd00::1]:53/udp`, `far/icmp`, `any`.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use thiserror::Error;

use crate::{Transport, without_brackets};

/// A set of destinations, in the words in which `hop sandbox --allow` takes them.
///
/// Its [`Display`](fmt::Display) is such a word again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Allow {
    /// Which hosts.
    pub hosts: Hosts,
    /// Which port; `None`: all, and what has none.
    pub port: Option<u16>,
    /// Over which protocol; `None`: all. Of ICMP there is no port.
    pub protocol: Option<Protocol>,
}

/// A protocol that passes the fence of a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// Of ICMP, in either family, the echo (ping) and the errors that it meets.
    Icmp,
}

impl From<Transport> for Protocol {
    fn from(transport: Transport) -> Self {
        match transport {
            Transport::Tcp => Protocol::Tcp,
            Transport::Udp => Protocol::Udp,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
        })
    }
}

/// Hosts, by address or by name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hosts {
    /// All of them.
    Any,
    /// Those with an address in this network.
    Net(IpNet),
    /// The one of that name, in lower case, whatever its addresses are at the time.
    Name(String),
    /// Those whose names end in this one and have more in front of it: `*.example.org`.
    Below(String),
}

/// Why a text names no destinations.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AllowError {
    /// There is nothing.
    #[error("it names no host; write HOST:PORT, an address, a network such as 10.0.0.0/8, or `any`")]
    Empty,
    /// A URL.
    #[error("`{text}` is a URL; write its host and port, as in `example.org:443`")]
    Url {
        /// What was given.
        text: String,
    },
    /// No port.
    #[error("`{port}` is no port; ports are 1 to 65535")]
    Port {
        /// What was given for one.
        port: String,
    },
    /// No protocol.
    #[error("`{protocol}` is neither a prefix length nor a protocol; protocols are `tcp`, `udp` and `icmp`")]
    Protocol {
        /// What was given for one.
        protocol: String,
    },
    /// A port of ICMP.
    #[error("ICMP has no ports, so `{text}` names nothing; write `{host}/icmp`")]
    PortOfIcmp {
        /// What was given.
        text: String,
        /// The host in it.
        host: String,
    },
    /// A star that is not all of the first part of a name.
    #[error(
        "`{host}` is no pattern; a star stands for names below one, as in `*.example.org`, and for all hosts is `any`"
    )]
    Pattern {
        /// What was given.
        host: String,
    },
    /// A network with bits of a host in it: which of the two is meant decides how much is open.
    #[error("`{host}` has bits beyond its length; the network is {net}, the address alone {addr}")]
    HostBits {
        /// What was given.
        host: String,
        /// The network that it is in.
        net: IpNet,
        /// The address in it.
        addr: IpAddr,
    },
    /// A length that no prefix has.
    #[error("`{host}` is no network; a prefix has 0 to {longest} bits")]
    Length {
        /// What was given.
        host: String,
        /// As many bits as the address.
        longest: u8,
    },
    /// An address of IPv6 whose end may be a port.
    #[error(
        "`{text}` may be an address, or port {port} of {addr}; write `[{addr}]:{port}` for the port, `{whole}` for the address"
    )]
    Brackets {
        /// What was given.
        text: String,
        /// The address, if the end is a port.
        addr: Ipv6Addr,
        /// The port then, and its protocol.
        port: String,
        /// How it is written if it is not.
        whole: String,
    },
    /// Neither an address nor a name.
    #[error("`{host}` is neither a host name nor an address")]
    Host {
        /// What was given for one.
        host: String,
    },
    /// Destinations that cannot lie outside.
    #[error(
        "`{host}` is the sandbox's own loopback; what listens on a loopback outside is reached by nobody there \
         unless it listens on another address, too"
    )]
    Loopback {
        /// What was given.
        host: String,
    },
    /// Destinations that are more than one host.
    #[error("`{host}` is a group of hosts; a sandbox reaches single hosts only")]
    Group {
        /// What was given.
        host: String,
    },
}

impl FromStr for Allow {
    type Err = AllowError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains("://") {
            return Err(AllowError::Url { text: text.to_owned() });
        }
        let (rest, protocol) = match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Some(Protocol::Tcp)),
            Some((rest, "udp")) => (rest, Some(Protocol::Udp)),
            Some((rest, "icmp")) => (rest, Some(Protocol::Icmp)),
            // Of a network the prefix length, perhaps with a port behind it.
            Some((_, length)) if length.starts_with(|c: char| c.is_ascii_digit()) => (text, None),
            Some((_, protocol)) => return Err(AllowError::Protocol { protocol: protocol.to_owned() }),
            None => (text, None),
        };
        let (host, port) = split_port(rest)?;
        // Of ICMP there is no port.
        if protocol != Some(Protocol::Icmp)
            && rest.parse::<Ipv6Addr>().is_ok()
            && let Some((addr, port)) = without_brackets(text)
        {
            let whole = text.replacen(rest, &format!("[{rest}]"), 1);
            return Err(AllowError::Brackets { text: text.to_owned(), addr, port: port.to_owned(), whole });
        }
        if protocol == Some(Protocol::Icmp) && port.is_some() {
            return Err(AllowError::PortOfIcmp { text: text.to_owned(), host: host.to_owned() });
        }
        Ok(Allow { hosts: hosts(host)?, port, protocol })
    }
}

/// Splits a port off; colons of a bare IPv6 address are its own.
fn split_port(text: &str) -> Result<(&str, Option<u16>), AllowError> {
    let (host, port) = if let Some(rest) = text.strip_prefix('[') {
        let bad = || AllowError::Host { host: text.to_owned() };
        let (host, behind) = rest.split_once(']').ok_or_else(bad)?;
        match behind {
            "" => (host, None),
            _ => (host, Some(behind.strip_prefix(':').ok_or_else(bad)?)),
        }
    } else {
        match text.split_once(':') {
            Some((host, port)) if !port.contains(':') => (host, Some(port)),
            _ => (text, None),
        }
    };
    let number = |port: &str| match port.parse::<u16>() {
        // A sign is no digit.
        Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
        _ => Err(AllowError::Port { port: port.to_owned() }),
    };
    Ok((host, port.map(number).transpose()?))
}

fn hosts(host: &str) -> Result<Hosts, AllowError> {
    match host {
        "" => return Err(AllowError::Empty),
        "any" => return Ok(Hosts::Any),
        _ => {}
    }
    let net = host.parse::<IpNet>().ok().or_else(|| host.parse::<IpAddr>().ok().map(IpNet::from));
    if let Some(net) = net {
        let host = host.to_owned();
        if net != net.trunc() {
            return Err(AllowError::HostBits { host, net: net.trunc(), addr: net.addr() });
        }
        let is_single = net.prefix_len() == net.max_prefix_len();
        // Within larger networks the relay leaves them out by itself.
        return match net.network() {
            addr if addr.to_canonical().is_loopback() => Err(AllowError::Loopback { host }),
            addr if addr.is_multicast() => Err(AllowError::Group { host }),
            addr if is_single && !is_outside(addr) => Err(AllowError::Host { host }),
            _ => Ok(Hosts::Net(net)),
        };
    }
    if let Some((Ok(addr), length)) = host.split_once('/').map(|(addr, length)| (addr.parse::<IpAddr>(), length))
        && length.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(AllowError::Length { host: host.to_owned(), longest: IpNet::from(addr).max_prefix_len() });
    }
    if host.contains('*') {
        let below = host.strip_prefix("*.").map(|below| below.strip_suffix('.').unwrap_or(below).to_ascii_lowercase());
        return match below {
            Some(below) if is_host_name(&below) => Ok(Hosts::Below(below)),
            _ => Err(AllowError::Pattern { host: host.to_owned() }),
        };
    }
    let name = host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase();
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(AllowError::Loopback { host: host.to_owned() });
    }
    if !is_host_name(&name) {
        return Err(AllowError::Host { host: host.to_owned() });
    }
    Ok(Hosts::Name(name))
}

/// Is it a host name (RFC 1123, section 2.1)? Underscores are in some.
pub fn is_host_name(name: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // The last label of a name has a letter; otherwise it is an address with a mistake in it.
    let last_is_a_number = name.rsplit('.').next().is_none_or(|label| label.bytes().all(|b| b.is_ascii_digit()));
    name.len() <= 253 && name.split('.').all(is_label) && !last_is_a_number
}

/// Can a single host outside of a sandbox have this address? Not the loopback, nobody, everybody, a group, or
/// an IPv4 address in the clothes of an IPv6 one, by which a socket would reach all of those.
pub fn is_outside(addr: IpAddr) -> bool {
    let nobody_or_all = match addr {
        // 0.0.0.0/8 is "this host" (RFC 6890).
        IpAddr::V4(addr) => addr.octets()[0] == 0 || addr.is_broadcast(),
        IpAddr::V6(addr) => addr.is_unspecified() || addr.to_ipv4_mapped().is_some(),
    };
    !(nobody_or_all || addr.is_loopback() || addr.is_multicast())
}

/// Is an address opened by the name that has it? Not one of the link alone: whoever answers for a name would choose it, and in a
/// cloud the service is there that hands out the machine's keys (169.254.169.254). By its number it can be allowed.
pub fn is_opened_by_name(addr: IpAddr) -> bool {
    match behind_translator(addr).unwrap_or(addr) {
        IpAddr::V4(addr) => !addr.is_link_local(),
        IpAddr::V6(addr) => !addr.is_unicast_link_local(),
    }
}

/// The host of IPv4 to which a translator of the network (NAT64) leads, by the prefix that all of them know (RFC 6052).
fn behind_translator(addr: IpAddr) -> Option<IpAddr> {
    match addr {
        IpAddr::V6(addr) => match addr.octets() {
            [0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0, host @ ..] => Some(IpAddr::from(host)),
            _ => None,
        },
        IpAddr::V4(_) => None,
    }
}

impl Allow {
    /// Is that port of that protocol in it?
    pub fn has_port(&self, port: u16, transport: Transport) -> bool {
        self.port.is_none_or(|own| own == port) && self.has_protocol(transport.into())
    }

    /// Is the echo of ICMP in it? Who may reach one port may not see more of the host.
    pub fn has_echo(&self) -> bool {
        self.port.is_none() && self.has_protocol(Protocol::Icmp)
    }

    fn has_protocol(&self, protocol: Protocol) -> bool {
        self.protocol.is_none_or(|own| own == protocol)
    }

    /// The name, if it is one.
    pub fn name(&self) -> Option<&str> {
        match &self.hosts {
            Hosts::Name(name) => Some(name),
            _ => None,
        }
    }

    /// Is a host of that name, in lower case, in it?
    pub fn has_name(&self, name: &str) -> bool {
        match &self.hosts {
            Hosts::Any => true,
            Hosts::Net(_) => false,
            Hosts::Name(own) => own == name,
            Hosts::Below(end) => name.strip_suffix(end.as_str()).is_some_and(|front| front.ends_with('.')),
        }
    }

    /// Is the address in it by its number?
    pub fn has_address(&self, addr: IpAddr) -> bool {
        match &self.hosts {
            Hosts::Any => true,
            Hosts::Net(net) => net.contains(&addr),
            Hosts::Name(_) | Hosts::Below(_) => false,
        }
    }
}

impl fmt::Display for Allow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.hosts, self.port) {
            (Hosts::Net(IpNet::V6(_)), Some(_)) => write!(f, "[{}]", self.hosts)?,
            // Its end could be a port.
            (hosts, None) if without_brackets(&hosts.to_string()).is_some() => write!(f, "[{hosts}]")?,
            (hosts, _) => write!(f, "{hosts}")?,
        }
        if let Some(port) = self.port {
            write!(f, ":{port}")?;
        }
        self.protocol.map_or(Ok(()), |protocol| write!(f, "/{protocol}"))
    }
}

impl fmt::Display for Hosts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hosts::Any => f.write_str("any"),
            Hosts::Net(net) if net.prefix_len() == net.max_prefix_len() => write!(f, "{}", net.addr()),
            Hosts::Net(net) => write!(f, "{net}"),
            Hosts::Name(name) => f.write_str(name),
            Hosts::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// Destinations that stay closed, whatever is allowed: the words are those of [`Allow`], without names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deny(Allow);

/// Why a text names nothing that could be denied.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DenyError {
    /// It names no destinations.
    #[error(transparent)]
    Destination(#[from] AllowError),
    /// A name. Who is denied a name would find another one of the same host.
    #[error("`{name}` is a name, and only addresses, networks and `any` can be denied: a host may have other names")]
    Name {
        /// The name.
        name: String,
    },
}

impl FromStr for Deny {
    type Err = DenyError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let destinations: Allow = text.parse()?;
        match &destinations.hosts {
            Hosts::Name(_) | Hosts::Below(_) => Err(DenyError::Name { name: destinations.hosts.to_string() }),
            Hosts::Any | Hosts::Net(_) => Ok(Deny(destinations)),
        }
    }
}

impl Deny {
    /// Is that port of that host closed?
    pub fn has_port(&self, addr: IpAddr, port: u16, transport: Transport) -> bool {
        self.0.has_port(port, transport) && self.has_address(addr)
    }

    /// Is the echo of ICMP closed for that host?
    pub fn has_echo(&self, addr: IpAddr) -> bool {
        self.0.has_echo() && self.has_address(addr)
    }

    fn has_address(&self, addr: IpAddr) -> bool {
        self.0.has_address(addr) || behind_translator(addr).is_some_and(|behind| self.0.has_address(behind))
    }

    /// Does it close all of these, as far as that is known without looking up a name?
    pub fn covers(&self, other: &Allow) -> bool {
        let hosts = match (&self.0.hosts, &other.hosts) {
            (Hosts::Any, _) => true,
            (Hosts::Net(own), Hosts::Net(other)) => own.contains(other),
            _ => false,
        };
        let of_port = self.0.port.is_none() || self.0.port == other.port;
        let of_protocol = self.0.protocol.is_none() || self.0.protocol == other.protocol;
        hosts && of_port && of_protocol
    }
}

impl fmt::Display for Deny {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_may_have_a_port_stands_in_brackets() {
        for (text, said) in [
            ("fd00::1:443", "write `[fd00::1]:443` for the port, `[fd00::1:443]` for the address"),
            ("fd00::1:53/udp", "write `[fd00::1]:53/udp` for the port, `[fd00::1:53]/udp` for the address"),
        ] {
            let error = text.parse::<Allow>().unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
            assert!(matches!(text.parse::<Deny>(), Err(DenyError::Destination(AllowError::Brackets { .. }))));
        }
        for text in
            ["[fd00::1]:443", "[fd00::1:443]", "[fd00::1:53]/udp", "fd00::1:443/icmp", "fd00::1:443/128", "fd00::cafe"]
        {
            let allow: Allow = text.parse().unwrap();
            assert_eq!(allow.to_string().parse(), Ok(allow), "{text}");
        }
    }

    #[test]
    fn no_name_opens_what_is_of_the_link_alone() {
        for text in ["169.254.169.254", "169.254.0.1", "fe80::1", "64:ff9b::a9fe:a9fe"] {
            assert!(!is_opened_by_name(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "192.168.1.1", "fd00::1", "64:ff9b::a00:1"] {
            assert!(is_opened_by_name(text.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn every_form_is_read_and_written_alike() {
        for text in [
            "any",
            "any:53/udp",
            "example.org",
            "example.org:443",
            "far:80/tcp",
            "10.0.0.1",
            "10.0.0.1:80",
            "10.0.0.0/8",
            "10.0.0.0/8:443",
            "10.0.0.0/8:443/tcp",
            "10.0.0.0/8/udp",
            "far/icmp",
            "10.0.0.0/8/icmp",
            "fd00::1/icmp",
            "any/icmp",
            "fd00::1",
            "fd00::/8",
            "[fd00::1]:53/udp",
            "[fd00::/8]:53",
            "0.0.0.0/0",
            "::/0",
            "_dmarc.example.org",
            "*.example.org:443",
            "*.example.org/icmp",
        ] {
            let allow: Allow = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(allow.to_string(), text);
        }
        assert_eq!("Example.ORG.:443".parse::<Allow>().unwrap().to_string(), "example.org:443");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "names no host"),
            (":80", "names no host"),
            ("https://example.org/x", "is a URL"),
            ("example.org:0", "`0` is no port"),
            ("example.org:+80", "`+80` is no port"),
            ("example.org:http", "`http` is no port"),
            ("example.org:65536", "`65536` is no port"),
            ("example.org/sctp", "`sctp` is neither"),
            ("far:80/icmp", "ICMP has no ports"),
            ("10.0.0.0/33", "a prefix has 0 to 32 bits"),
            ("fd00::/129", "a prefix has 0 to 128 bits"),
            ("10.1.2.3/8:80", "has bits beyond its length; the network is 10.0.0.0/8, the address alone 10.1.2.3"),
            ("10.0.0.256:80", "neither a host name nor an address"),
            ("[fd00::1", "neither a host name nor an address"),
            ("[fd00::1]80", "neither a host name nor an address"),
            ("a b:80", "neither a host name nor an address"),
            ("-x:80", "neither a host name nor an address"),
            ("$(id)", "neither a host name nor an address"),
            ("*", "is no pattern"),
            ("*:80", "is no pattern"),
            ("x*.example.org", "is no pattern"),
            ("*.*.example.org", "is no pattern"),
            ("*.10", "is no pattern"),
            ("127.0.0.1:80", "own loopback"),
            ("::1", "own loopback"),
            ("[::ffff:127.0.0.1]:80", "own loopback"),
            ("localhost:80", "own loopback"),
            ("224.0.0.1", "group of hosts"),
            ("0.0.0.0:80", "neither a host name nor an address"),
            ("::ffff:10.0.0.1", "neither a host name nor an address"),
        ] {
            let error = text.parse::<Allow>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn names_below_one_are_those_with_more_in_front() {
        let allow: Allow = "*.Example.org:443".parse().unwrap();
        for (name, is_in) in
            [("a.example.org", true), ("a.b.example.org", true), ("example.org", false), ("badexample.org", false)]
        {
            assert_eq!(allow.has_name(name), is_in, "{name}");
        }
    }

    #[test]
    fn what_is_closed_as_a_whole_is_covered() {
        let covers = |deny: &str, allow: &str| deny.parse::<Deny>().unwrap().covers(&allow.parse().unwrap());
        assert!(covers("any", "example.org:80/tcp") && covers("10.0.0.0/8", "10.0.0.1/icmp"));
        assert!(covers("10.0.0.0/8:25", "10.0.0.1:25/tcp") && covers("any/udp", "10.0.0.1:53/udp"));
        for (deny, allow) in [("10.0.0.0/8", "example.org:80"), ("any:25", "10.0.0.1/icmp"), ("any/udp", "10.0.0.1:53")]
        {
            assert!(!covers(deny, allow), "{deny}, {allow}");
        }
    }

    #[test]
    fn only_what_has_a_number_is_denied() {
        for text in ["10.0.0.0/8", "any:25/tcp", "[fd00::1]:53", "192.0.2.7/icmp"] {
            assert_eq!(text.parse::<Deny>().unwrap().to_string(), text);
        }
        let error = "example.org:443".parse::<Deny>().unwrap_err().to_string();
        assert!(error.contains("`example.org` is a name"), "{error}");
        assert!("10.0.0.0/8:x".parse::<Deny>().unwrap_err().to_string().contains("`x` is no port"));
    }

    #[test]
    fn addresses_and_ports_are_in_it_or_not() {
        let allow: Allow = "10.0.0.0/8:443/tcp".parse().unwrap();
        assert!(allow.has_address("10.9.9.9".parse().unwrap()));
        assert!(!allow.has_address("11.0.0.1".parse().unwrap()));
        assert!(allow.has_port(443, Transport::Tcp));
        assert!(!allow.has_port(443, Transport::Udp));
        assert!(!allow.has_port(80, Transport::Tcp));
    }

    #[test]
    fn the_echo_is_in_what_names_no_port_and_no_other_protocol() {
        for (text, has_echo) in [
            ("far", true),
            ("far/icmp", true),
            ("any", true),
            ("10.0.0.0/8", true),
            ("far:80", false),
            ("far/tcp", false),
            ("any:53/udp", false),
        ] {
            assert_eq!(text.parse::<Allow>().unwrap().has_echo(), has_echo, "{text}");
        }
        let allow: Allow = "far/icmp".parse().unwrap();
        assert!(!allow.has_port(80, Transport::Tcp) && !allow.has_port(80, Transport::Udp));
    }

    #[test]
    fn what_no_single_host_has_is_not_outside() {
        for text in ["127.9.9.9", "0.0.0.0", "255.255.255.255", "224.0.0.9", "::1", "::", "ff02::1", "::ffff:127.0.0.1"]
        {
            assert!(!is_outside(text.parse().unwrap()), "{text}");
        }
        for text in ["10.0.0.1", "8.8.8.8", "169.254.1.1", "fd00::1", "2001:db8::1"] {
            assert!(is_outside(text.parse().unwrap()), "{text}");
        }
    }
}
