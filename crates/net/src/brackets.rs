//! Addresses of IPv6 with a port behind them, which stand in brackets (RFC 3986, section 3.2.2).

use std::net::Ipv6Addr;

/// An address of IPv6 and what may be a port behind it, as one writes it who forgets the brackets: `fd00::1:80`. The
/// protocol stays with the port: `fd00::1:53/udp`.
pub fn without_brackets(text: &str) -> Option<(Ipv6Addr, &str)> {
    let (addr, service) = text.rsplit_once(':')?;
    let (port, _) = service.split_once('/').unwrap_or((service, ""));
    let is_port = port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port != 0);
    Some((addr.parse().ok()?, service)).filter(|_| is_port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_an_address_without_its_end_may_have_a_port() {
        assert_eq!(without_brackets("fd00::1:80"), Some(("fd00::1".parse().unwrap(), "80")));
        assert_eq!(without_brackets("fd00::1:53/udp"), Some(("fd00::1".parse().unwrap(), "53/udp")));
        for whole in ["2606:4700:4700::1111", "fd00::1:cafe", "fd00::1:0", "1:2:3:4:5:6:7:8", "10.0.0.1:80", "fd00::1"]
        {
            assert_eq!(without_brackets(whole), None, "{whole}");
        }
    }
}
