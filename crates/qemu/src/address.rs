//! Where a QEMU socket is.
//!
//! ```text
//!   unix:PATH          /PATH          ./PATH          anything with a slash and no scheme before it
//!   tcp:HOST:PORT      tcp:[::1]:PORT
//!   …,server=on,wait=off              as in QEMU's own options: that QEMU listens is understood anyway
//! ```

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// The address of a socket that a QEMU process listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// A unix socket in the file system.
    Unix(PathBuf),
    /// A TCP port; the host is a name or an address, an IPv6 address without its brackets.
    Tcp {
        /// Name or address.
        host: String,
        /// Never 0 when it comes from a text; a listener takes 0 as any free port.
        port: u16,
    },
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let wrong = |problem| AddressError {
            text: text.to_owned(),
            problem,
        };
        let place = without_server_options(text);
        match place.split_once(':') {
            None if place.contains('/') => unix(place).map_err(wrong),
            Some((before, _)) if before.contains('/') => unix(place).map_err(wrong),
            Some(("unix", path)) => unix(path).map_err(wrong),
            Some(("tcp", rest)) => tcp(rest).map_err(wrong),
            Some((scheme @ ("exec" | "fd"), _)) => {
                let scheme = scheme.to_owned();
                Err(wrong(Problem::NotASocket { scheme }))
            }
            _ => Err(wrong(Problem::Scheme)),
        }
    }
}

/// QEMU's options for a socket on which it listens itself, as they stand in its command line.
fn without_server_options(text: &str) -> &str {
    const OPTIONS: [&str; 6] = [
        ",server",
        ",server=on",
        ",wait=off",
        ",wait=on",
        ",nowait",
        ",nodelay=on",
    ];
    let mut place = text;
    while let Some(shorter) = OPTIONS
        .iter()
        .find_map(|&option| place.strip_suffix(option))
    {
        place = shorter;
    }
    place
}

fn unix(path: &str) -> Result<Address, Problem> {
    // `struct sockaddr_un` holds 108 bytes, the closing zero among them.
    const MAX_UNIX_PATH: usize = 107;
    match path.len() {
        0 => Err(Problem::NoPath),
        length if length > MAX_UNIX_PATH => Err(Problem::PathTooLong {
            length,
            limit: MAX_UNIX_PATH,
        }),
        _ => Ok(Address::Unix(PathBuf::from(path))),
    }
}

fn tcp(rest: &str) -> Result<Address, Problem> {
    let (host, port) = match rest.strip_prefix('[') {
        Some(bracketed) => bracketed.split_once("]:").ok_or(Problem::Bracket)?,
        None => rest.rsplit_once(':').ok_or(Problem::NoPort)?,
    };
    if host.is_empty() {
        return Err(Problem::NoHost);
    }
    if host.contains(':') && !rest.starts_with('[') {
        return Err(Problem::Bracket);
    }
    let port = port
        .parse()
        .ok()
        .filter(|&port| port != 0)
        .ok_or(Problem::Port)?;
    Ok(Address::Tcp {
        host: host.to_owned(),
        port,
    })
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp:[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp:{host}:{port}"),
        }
    }
}

/// Why a text is not an address; the user's fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressError {
    text: String,
    problem: Problem,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Problem {
    Scheme,
    NotASocket { scheme: String },
    NoPath,
    PathTooLong { length: usize, limit: usize },
    NoHost,
    NoPort,
    Port,
    Bracket,
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an address: ", self.text)?;
        match &self.problem {
            Problem::Scheme => f.write_str(
                "it must be unix:PATH or tcp:HOST:PORT, or a path with a slash in it, as in ./qmp.sock",
            ),
            Problem::NotASocket { scheme } => write!(
                f,
                "`{scheme}:` stands in QEMU's command; here it must be unix:PATH or tcp:HOST:PORT"
            ),
            Problem::NoPath => f.write_str("a path must follow `unix:`"),
            Problem::PathTooLong { length, limit } => {
                write!(
                    f,
                    "the path has {length} bytes, a unix socket's has at most {limit}"
                )
            }
            Problem::NoHost => f.write_str("a host must follow `tcp:`, such as 127.0.0.1"),
            Problem::NoPort => f.write_str("a port must follow the host, as in tcp:HOST:PORT"),
            Problem::Port => f.write_str("the port must be a number from 1 to 65535"),
            Problem::Bracket => {
                f.write_str("an IPv6 address stands in brackets, as in tcp:[::1]:4444")
            }
        }
    }
}

impl std::error::Error for AddressError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_parsing_and_printing() {
        for text in [
            "unix:/run/qmp.sock",
            "unix:relative:with:colons",
            "tcp:localhost:4444",
            "tcp:127.0.0.1:1",
            "tcp:[::1]:65535",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!(
            "tcp:[fe80::1%eth0]:4444".parse(),
            Ok(Address::Tcp {
                host: "fe80::1%eth0".to_owned(),
                port: 4444
            })
        );
    }

    #[test]
    fn addresses_may_look_as_in_qemus_options() {
        for (text, same) in [
            ("/run/qmp.sock", "unix:/run/qmp.sock"),
            ("./qmp.sock", "unix:./qmp.sock"),
            ("guests/one:two", "unix:guests/one:two"),
            ("unix:/run/qmp,server=on,wait=off", "unix:/run/qmp"),
            ("unix:/run/qmp,server,nowait", "unix:/run/qmp"),
            (
                "tcp:localhost:4444,server=on,wait=off",
                "tcp:localhost:4444",
            ),
            ("unix:/a,b", "unix:/a,b"),
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), same);
        }
    }

    #[test]
    fn a_wrong_address_is_refused_with_what_is_wrong_about_it() {
        let long = format!("unix:/{}", "x".repeat(107));
        for (text, says) in [
            ("", "must be unix:PATH or tcp:HOST:PORT"),
            ("qmp.sock", "must be unix:PATH or tcp:HOST:PORT"),
            ("localhost:4444", "must be unix:PATH or tcp:HOST:PORT"),
            ("exec:cat", "stands in QEMU's command"),
            ("fd:4", "stands in QEMU's command"),
            ("unix:,server=on", "a path must follow"),
            ("unix:", "a path must follow"),
            (long.as_str(), "108 bytes"),
            ("tcp:4444", "a port must follow"),
            ("tcp::4444", "a host must follow"),
            ("tcp:localhost:", "1 to 65535"),
            ("tcp:localhost:0", "1 to 65535"),
            ("tcp:localhost:65536", "1 to 65535"),
            ("tcp:::1:4444", "in brackets"),
            ("tcp:[::1]", "in brackets"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
