//! Where a receiver is: a host and a port.
//!
//! ```text
//!   host-b.example          host-b.example:7325
//!   192.0.2.7               192.0.2.7:7325
//!   [2001:db8::7]           [2001:db8::7]:7325          [fe80::7%eth0]:7325
//! ```

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

/// The port of both the control channel and the lanes: nobody else's, by IANA's list; and what firewalls are opened for.
pub const DEFAULT_PORT: u16 = 7325;

/// A host, by name or address, and a port.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Endpoint {
    host: String,
    port: u16,
}

impl Endpoint {
    /// A name or an address; an IPv6 address without brackets, and with its zone if it has one.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port. 0, which only one that listens may have, lets the system choose.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// What a certificate calls this host: a zone is not part of it.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.host.split_once('%') {
            Some((address, _)) => address,
            None => &self.host,
        }
    }

    /// One to connect to.
    pub(super) fn remote(text: &str) -> Result<Self, EndpointError> {
        let endpoint: Self = text.parse()?;
        if endpoint.port == 0 {
            return Err(EndpointError::Port);
        }
        Ok(endpoint)
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    fn from_str(text: &str) -> Result<Self, EndpointError> {
        let (host, port) = match text.strip_prefix('[') {
            Some(bracketed) => {
                let (address, rest) = bracketed.split_once(']').ok_or(EndpointError::Bracket)?;
                (ipv6(address)?, rest)
            }
            None => name(text)?,
        };
        let port = match port.strip_prefix(':') {
            Some(port) => number(port)?,
            None if port.is_empty() => DEFAULT_PORT,
            None => return Err(EndpointError::Port),
        };
        let host = host.to_owned();
        Ok(Self { host, port })
    }
}

/// An IPv6 address, with or without the zone that a link-local one needs.
fn ipv6(text: &str) -> Result<&str, EndpointError> {
    let (address, zone) = text.split_once('%').unwrap_or((text, "0"));
    let right = address.parse::<Ipv6Addr>().is_ok() && is_name(zone);
    right.then_some(text).ok_or(EndpointError::Bracket)
}

/// A name or an IPv4 address, and what stands behind it.
fn name(text: &str) -> Result<(&str, &str), EndpointError> {
    let (host, port) = text.split_at(text.find(':').unwrap_or(text.len()));
    if text.parse::<Ipv6Addr>().is_ok() || port.matches(':').count() > 1 {
        return Err(match host {
            "tcp" | "unix" => EndpointError::Scheme,
            _ => EndpointError::Bracket,
        });
    }
    match host {
        "" => Err(EndpointError::NoHost),
        "unix" => Err(EndpointError::Scheme),
        host if is_name(host) => Ok((host, port)),
        _ => Err(EndpointError::Host),
    }
}

/// What DNS can hold; names of hosts have underscores here and there.
fn is_name(text: &str) -> bool {
    /// RFC 1035, 2.3.4: 255 octets with the lengths of the first label and of the root.
    const MAX: usize = 253;
    let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=MAX).contains(&text.len()) && text.bytes().all(letter)
}

fn number(text: &str) -> Result<u16, EndpointError> {
    // `parse` would take a sign.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = digits.then(|| text.parse().ok()).flatten();
    port.ok_or(EndpointError::Port)
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        if host.contains(':') {
            write!(f, "[{host}]:{port}")
        } else {
            write!(f, "{host}:{port}")
        }
    }
}

/// Why a text is no host and port; the user's fault. The text itself is for the caller to show.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EndpointError {
    /// As for QEMU's sockets.
    Scheme,
    /// Nothing before the port.
    NoHost,
    /// What no host is called.
    Host,
    /// Not a port.
    Port,
    /// An IPv6 address without its brackets, or brackets without one.
    Bracket,
}

impl fmt::Display for EndpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "it is HOST:PORT alone, without unix: or tcp:, as in host-b:7325",
            Self::NoHost => "a host must stand before the port, as in host-b:7325",
            Self::Host => "a host is a name or an address, as in host-b:7325 or 192.0.2.7",
            Self::Port => "the port must be a number from 1 to 65535, as in host-b:7325",
            Self::Bracket => "an IPv6 address stands in brackets, as in [2001:db8::7]:7325",
        })
    }
}

impl std::error::Error for EndpointError {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(text: &str) -> (String, u16) {
        let endpoint: Endpoint = text.parse().unwrap();
        (endpoint.host().into(), endpoint.port())
    }

    #[test]
    fn hosts_have_names_or_addresses_and_a_port_or_the_usual_one() {
        for (text, host, port) in [
            ("host-b", "host-b", DEFAULT_PORT),
            ("host-b.example:1", "host-b.example", 1),
            ("192.0.2.7", "192.0.2.7", DEFAULT_PORT),
            ("192.0.2.7:65535", "192.0.2.7", 65535),
            ("[2001:db8::7]", "2001:db8::7", DEFAULT_PORT),
            ("[::]:7325", "::", 7325),
            ("[fe80::7%eth0]:80", "fe80::7%eth0", 80),
            ("tcp:80", "tcp", 80),
        ] {
            assert_eq!(endpoint(text), (host.into(), port), "{text}");
        }
    }

    #[test]
    fn a_zone_is_not_part_of_the_name_that_a_certificate_proves() {
        let endpoint: Endpoint = "[fe80::7%eth0]".parse().unwrap();
        assert_eq!(endpoint.name(), "fe80::7");
        let endpoint: Endpoint = "host-b".parse().unwrap();
        assert_eq!(endpoint.name(), "host-b");
    }

    #[test]
    fn only_one_that_listens_lets_the_system_choose_a_port() {
        assert_eq!(endpoint("127.0.0.1:0").1, 0);
        assert_eq!(Endpoint::remote("127.0.0.1:0"), Err(EndpointError::Port));
        assert!(Endpoint::remote("127.0.0.1:1").is_ok());
    }

    #[test]
    fn wrong_ones_are_refused_with_what_to_write() {
        for (text, error) in [
            ("", EndpointError::NoHost),
            (":7325", EndpointError::NoHost),
            ("::1", EndpointError::Bracket),
            ("::1:7325", EndpointError::Bracket),
            ("2001:db8::7", EndpointError::Bracket),
            ("[::1", EndpointError::Bracket),
            ("[host-b]:7325", EndpointError::Bracket),
            ("[]:7325", EndpointError::Bracket),
            ("[::1%]:7325", EndpointError::Bracket),
            ("[::1]7325", EndpointError::Port),
            ("[::1]:", EndpointError::Port),
            ("host-b:", EndpointError::Port),
            ("host-b:65536", EndpointError::Port),
            ("host-b:+1", EndpointError::Port),
            ("host-b:ssh", EndpointError::Port),
            ("tcp:host-b:7325", EndpointError::Scheme),
            ("unix:/run/a", EndpointError::Scheme),
            ("https://host-b", EndpointError::Port),
            ("root@host-b", EndpointError::Host),
            ("/run/a", EndpointError::Host),
            ("host b", EndpointError::Host),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_survives_printing_and_parsing(text in "(\\[[0-9a-f:%]{0,12}\\]|[a-z0-9:.-]{0,12})(:[0-9]{0,6})?") {
            if let Ok(endpoint) = text.parse::<Endpoint>() {
                prop_assert_eq!(endpoint.to_string().parse(), Ok(endpoint));
            }
        }

        #[test]
        fn any_text_is_an_endpoint_or_refused(text in "\\PC*") {
            let _ = text.parse::<Endpoint>();
        }
    }
}
