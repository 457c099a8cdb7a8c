//! Ports of a sandbox that the network outside may reach: `8080`, `8080:80`, `0.0.0.0:8080:80`, `53/udp`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use hopyard_net::Transport;
use thiserror::Error;

/// A port outside, and the one of the sandbox to which it leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// The address outside; `None`: the loopback, in both families.
    pub addr: Option<IpAddr>,
    /// The port outside.
    pub outer: u16,
    /// The port in the sandbox, on its loopback.
    pub inner: u16,
    /// Over which protocol.
    pub transport: Transport,
}

/// Why a text says of no port where it leads.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// No port.
    #[error(
        "`{port}` is no port; write PORT, OUTER:INNER or ADDRESS:OUTER:INNER, with ports from 1 to 65535, and `/udp` \
         behind it where it is not TCP"
    )]
    Port {
        /// What was given for one.
        port: String,
    },
    /// No protocol.
    #[error("`{protocol}` is no protocol with ports; write `/tcp`, or `/udp`")]
    Protocol {
        /// What was given for one.
        protocol: String,
    },
    /// No address.
    #[error("`{addr}` is no address; an IPv6 one stands in brackets, as in `[::]:8080:80`")]
    Address {
        /// What was given for one.
        addr: String,
    },
}

impl FromStr for Publish {
    type Err = PublishError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (text, transport) = match text.rsplit_once('/') {
            None => (text, Transport::Tcp),
            Some((rest, "tcp")) => (rest, Transport::Tcp),
            Some((rest, "udp")) => (rest, Transport::Udp),
            Some((_, protocol)) => return Err(PublishError::Protocol { protocol: protocol.to_owned() }),
        };
        let (addr, ports) = if let Some(rest) = text.strip_prefix('[') {
            let bad = || PublishError::Address { addr: text.to_owned() };
            let (addr, ports) = rest.split_once("]:").ok_or_else(bad)?;
            (Some(IpAddr::V6(addr.parse().map_err(|_| bad())?)), ports)
        } else {
            match text.split_once(':') {
                Some((addr, ports)) if ports.contains(':') || addr.contains('.') => {
                    let bad = || PublishError::Address { addr: addr.to_owned() };
                    (Some(IpAddr::V4(addr.parse().map_err(|_| bad())?)), ports)
                }
                _ => (None, text),
            }
        };
        let number = |port: &str| match port.parse::<u16>() {
            Ok(number) if number > 0 && port.bytes().all(|byte| byte.is_ascii_digit()) => Ok(number),
            _ => Err(PublishError::Port { port: port.to_owned() }),
        };
        let (outer, inner) = ports.split_once(':').unwrap_or((ports, ports));
        Ok(Publish { addr, outer: number(outer)?, inner: number(inner)?, transport })
    }
}

impl fmt::Display for Publish {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.addr {
            None => {}
            Some(IpAddr::V4(addr)) => write!(f, "{addr}:")?,
            Some(IpAddr::V6(addr)) => write!(f, "[{addr}]:")?,
        }
        write!(f, "{}:{}", self.outer, self.inner)?;
        // As most write it.
        if self.transport == Transport::Tcp { Ok(()) } else { write!(f, "/{}", self.transport) }
    }
}

impl Publish {
    /// Where it is listened outside.
    pub(super) fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = match self.addr {
            Some(addr) => vec![addr],
            None => vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()],
        };
        addresses.into_iter().map(|addr| SocketAddr::new(addr, self.outer)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_addresses_are_read() {
        let publish = |text: &str| text.parse::<Publish>().unwrap();
        let tcp = |addr: Option<&str>, outer, inner| {
            let addr = addr.map(|addr| addr.parse().unwrap());
            Publish { addr, outer, inner, transport: Transport::Tcp }
        };
        assert_eq!(publish("8080"), tcp(None, 8080, 8080));
        assert_eq!(publish("8080:80"), tcp(None, 8080, 80));
        assert_eq!(publish("8080:80/tcp"), tcp(None, 8080, 80));
        assert_eq!(publish("0.0.0.0:8080:80"), tcp(Some("0.0.0.0"), 8080, 80));
        assert_eq!(publish("0.0.0.0:8080"), tcp(Some("0.0.0.0"), 8080, 8080));
        for (text, shown) in [("53/udp", "53:53/udp"), ("[::1]:5353:53/udp", "[::1]:5353:53/udp"), ("80/tcp", "80:80")]
        {
            assert_eq!(publish(text).to_string(), shown);
            assert_eq!(publish(shown), publish(text));
        }
        assert_eq!(publish("[::]:8080:80").addr, Some("::".parse().unwrap()));
        assert_eq!(publish("8080").addresses().len(), 2);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, part) in [
            ("", "`` is no port"),
            ("0", "`0` is no port"),
            ("http", "`http` is no port"),
            ("80:http", "`http` is no port"),
            ("1:2:3:4", "`1` is no address"),
            ("here:80:80", "`here` is no address"),
            ("[::1", "is no address"),
            ("80/sctp", "`sctp` is no protocol"),
            ("80/", "`` is no protocol"),
        ] {
            let error = text.parse::<Publish>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
