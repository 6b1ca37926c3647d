//! A name in a certificate, and what equals it.

use std::fmt;
use std::net::IpAddr;

/// A name that a certificate gives its holder. Shown as text without control characters: it may end in a log.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Name {
    /// A DNS name of the certificate's alternative names.
    Dns(String),
    /// An address of the certificate's alternative names.
    Ip(IpAddr),
    /// The subject's common name, which counts only where there is no alternative name.
    Common(String),
}

impl Name {
    /// Whether `wanted`, as a person or an address book has it, is this name: addresses by value, names without regard to case
    /// and without a root's final dot. A wildcard stands for nothing here: who brings guests is named one by one.
    #[must_use]
    pub fn is(&self, wanted: &str) -> bool {
        match self {
            Self::Ip(address) => parse_address(wanted) == Some(*address),
            Self::Dns(name) => same_host(name, wanted),
            Self::Common(name) => match (parse_address(name), parse_address(wanted)) {
                (Some(name), Some(wanted)) => name == wanted,
                _ => same_host(name, wanted),
            },
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dns(name) | Self::Common(name) => f.write_str(&printable(name)),
            Self::Ip(address) => address.fmt(f),
        }
    }
}

/// An address as people write it, with or without an IPv6 address's brackets. An IPv4 address in IPv6's clothes is the IPv4
/// address: it is what a listener on `::` sees.
pub(crate) fn parse_address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'))
        .unwrap_or(text);
    bare.parse()
        .ok()
        .map(|address: IpAddr| address.to_canonical())
}

fn same_host(one: &str, other: &str) -> bool {
    let bare = |name: &str| name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let one = bare(one);
    !one.is_empty() && one == bare(other)
}

/// `text` with a replacement character for each control character.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// `alpha, beta and gamma`; `no name` for none.
pub(crate) fn listed<T: fmt::Display>(items: &[T]) -> String {
    match items {
        [] => "no name".to_owned(),
        [only] => only.to_string(),
        [first @ .., last] => {
            let first: Vec<_> = first.iter().map(ToString::to_string).collect();
            format!("{} and {last}", first.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dns_name_is_compared_without_case_and_final_dot() {
        let name = Name::Dns("Alpha.example.org".into());
        assert!(name.is("alpha.EXAMPLE.org."));
        assert!(!name.is("beta.example.org"));
        assert!(!Name::Dns(String::new()).is(""));
    }

    #[test]
    fn a_wildcard_stands_for_nothing() {
        assert!(!Name::Dns("*.example.org".into()).is("alpha.example.org"));
    }

    #[test]
    fn an_address_is_compared_by_value() {
        let name = Name::Ip("2001:db8::1".parse().unwrap());
        assert!(name.is("2001:0db8:0:0::1"));
        assert!(name.is("[2001:db8::1]"));
        assert!(!name.is("2001:db8::2"));
        assert!(Name::Ip("192.0.2.1".parse().unwrap()).is("::ffff:192.0.2.1"));
    }

    #[test]
    fn an_address_as_common_name_is_an_address() {
        assert!(Name::Common("2001:db8::1".into()).is("2001:db8:0::1"));
    }

    #[test]
    fn names_do_not_carry_control_characters_into_a_log() {
        assert_eq!(Name::Common("a\nb".into()).to_string(), "a\u{fffd}b");
    }

    #[test]
    fn lists_read_as_a_sentence() {
        assert_eq!(listed(&["a"; 0]), "no name");
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
    }
}
