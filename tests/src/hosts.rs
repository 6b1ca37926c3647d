//! Two hosts on one machine: network namespaces, joined by a link that can be slowed and cut.
//!
//! ```text
//!   host a: namespace sealift-PID-N-a          host b: namespace sealift-PID-N-b
//!  ┌──────────────────────────────────┐       ┌──────────────────────────────────┐
//!  │ processes    10.77.0.1  fd77::1  │       │  10.77.0.2  fd77::2    processes │
//!  │                            eth0 ─┼─ tbf ─┼─ eth0                            │
//!  └──────────────────────────────────┘       └──────────────────────────────────┘
//!       what is sent waits in the sender's own queue: tbf (shaped), none (fast), blackhole (cut)
//! ```
//!
//! Hosts that are far from each other have a third namespace between them, in which every packet waits.
//!
//! Only the network is of the host's own: files, unix sockets and process ids are the machine's, so that a test controls a QEMU on
//! either host from outside. The namespaces' names carry the id of the process that made them. They go when [`Hosts`] is dropped, and those
//! that a killed process left behind go when the next ones are made. Processes on a host end with the thread that started them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::delay::{self, Line};
use crate::rate::BitRate;
use crate::tools::run;
use crate::{Context, Error};

/// The link's name on either host; a namespace has no other than it and `lo`.
const LINK: &str = "eth0";

/// Where `ip netns` keeps the names.
const NAMESPACES: &str = "/run/netns";

/// What every namespace of the lab begins with.
const PREFIX: &str = "sealift-";

/// `ip` and `tc` answer in milliseconds; a machine on which they take so many seconds is broken, and the test says so instead of hanging.
const PATIENCE_SECONDS: &str = "30";

/// tbf lets so much pass at once: 2 ms of the rate, so that a timer that is late by a scheduler's tick loses nothing …
const BURST_MS: u64 = 2;
/// … and not less than one packet as the kernel's own stack makes them before it cuts them up.
const LEAST_BURST: u64 = 64 << 10;

/// What waits longer in tbf's queue is dropped: the buffer of an ordinary router, in time.
const QUEUE: &str = "50ms";

/// Two hosts and the link between them. Dropping it removes both.
#[derive(Debug)]
pub struct Hosts {
    a: Host,
    b: Host,
    rate: Option<BitRate>,
    // Ends before its devices do.
    line: Option<Line>,
    between: Option<String>,
}

/// One of the hosts. A copy of it is only a handle.
#[derive(Clone, Debug)]
pub struct Host {
    namespace: String,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

/// Bytes that passed through a host's end of the link, headers of the link layer included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Out of this host; what a shaped link has let through.
    pub sent: u64,
    /// Into this host.
    pub received: u64,
}

impl Hosts {
    /// Makes two hosts with a link as fast as the machine. It takes root.
    pub fn new() -> Result<Self, Error> {
        let hosts = Self::apart()?;
        let (a, b) = (&hosts.a.namespace, &hosts.b.namespace);
        join((a, LINK), (b, LINK)).context("joining the hosts")?;
        hosts.a.raise()?;
        hosts.b.raise()?;
        Ok(hosts)
    }

    /// The same, but that whatever is sent is so long on its way, in either direction.
    pub fn distant(delay: Duration) -> Result<Self, Error> {
        let mut hosts = Self::apart()?;
        let between = hosts.a.namespace.clone() + "-line";
        bounded("ip", &["netns", "add", &between]).context("making a network namespace")?;
        hosts.between = Some(between.clone());
        let end = |host: &Host, end| {
            join((&host.namespace, LINK), (&between, end)).context("joining the hosts")?;
            host.raise()?;
            tap(&between, end, &format!("{}-line", host.namespace))
                .context("the end of a long line (it takes the kernel's macvtap)")
        };
        let ends = [end(&hosts.a, "a")?, end(&hosts.b, "b")?];
        hosts.line = Some(Line::new(ends, delay)?);
        Ok(hosts)
    }

    /// Two hosts without a link.
    fn apart() -> Result<Self, Error> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        remove_left_behind();
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let host = |letter: char, last: u8| Host {
            namespace: format!("{PREFIX}{}-{number}-{letter}", std::process::id()),
            ipv4: Ipv4Addr::new(10, 77, 0, last),
            ipv6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, last.into()),
        };
        // From here on whatever was made is removed, also when the rest fails.
        let hosts = Self {
            a: host('a', 1),
            b: host('b', 2),
            rate: None,
            line: None,
            between: None,
        };
        for Host { namespace, .. } in [&hosts.a, &hosts.b] {
            bounded("ip", &["netns", "add", namespace])
                .context("making a network namespace (root is needed for it)")?;
        }
        Ok(hosts)
    }

    /// The first host.
    #[must_use]
    pub fn a(&self) -> &Host {
        &self.a
    }

    /// The second host.
    #[must_use]
    pub fn b(&self) -> &Host {
        &self.b
    }

    /// From now on the link carries no more than this, in either direction.
    pub fn shape(&mut self, rate: BitRate) -> Result<(), Error> {
        self.rate = Some(rate);
        self.heal()
    }

    /// From now on whatever is sent is lost, in both directions, and nobody is told: no reset, no unreachable host, a link that is up.
    /// Connections live on until somebody's patience ends.
    pub fn cut(&self) -> Result<(), Error> {
        for host in [&self.a, &self.b] {
            host.queue(&["replace", "dev", LINK, "root", "blackhole"])?;
        }
        Ok(())
    }

    /// The link is again what it was before [`Hosts::cut`].
    pub fn heal(&self) -> Result<(), Error> {
        for host in [&self.a, &self.b] {
            match self.rate {
                Some(rate) => host.queue_rate(rate)?,
                // A veth that is given nothing else has no queue.
                None => host.queue(&["replace", "dev", LINK, "root", "noqueue"])?,
            }
        }
        Ok(())
    }
}

impl Drop for Hosts {
    fn drop(&mut self) {
        self.line = None;
        let hosts = [&self.a.namespace, &self.b.namespace];
        for namespace in hosts.into_iter().chain(&self.between) {
            // The namespace itself lives until its last process has ended, its name does not.
            let _ = bounded("ip", &["netns", "del", namespace]);
        }
    }
}

impl Host {
    /// Its address, which the other host reaches.
    #[must_use]
    pub fn ipv4(&self) -> IpAddr {
        self.ipv4.into()
    }

    /// The same for IPv6.
    #[must_use]
    pub fn ipv6(&self) -> IpAddr {
        self.ipv6.into()
    }

    /// Resets as many as `most` of the connections that this host has made to a port: both ends are told. Returns how many these were.
    pub fn reset(&self, port: u16, most: usize) -> Result<usize, Error> {
        let ends = self.connections(port, most)?;
        for own in &ends {
            let (own, to_port) = (format!(":{own}"), format!(":{port}"));
            let kill = ["ss", "-K", "sport", "=", &own, "dport", "=", &to_port];
            self.run(&kill)?;
        }
        Ok(ends.len())
    }

    /// What this host sends over as many of them is lost from now on, and nobody is told. Others are what they were.
    pub fn silence(&self, port: u16, most: usize) -> Result<usize, Error> {
        let ends = self.connections(port, most)?;
        for own in &ends {
            let rule = [
                "ip",
                "rule",
                "add",
                "ipproto",
                "tcp",
                "sport",
                own,
                "blackhole",
            ];
            self.run(&rule)?;
        }
        Ok(ends.len())
    }

    /// This end's ports of connections to a port, as many as `most` of them. The system gives them out in any order.
    fn connections(&self, port: u16, most: usize) -> Result<Vec<String>, Error> {
        let to_port = format!(":{port}");
        let established = ["ss", "-tnH", "state", "established", "dport", "=", &to_port];
        let found = self.run(&established)?;
        // Receive queue, send queue, this end, the other.
        let mut ends: Vec<_> = found
            .lines()
            .filter_map(|line| line.split_whitespace().nth(2))
            .filter_map(|end| end.rsplit_once(':'))
            .map(|(_, port)| port.to_owned())
            .collect();
        ends.sort();
        ends.truncate(most);
        Ok(ends)
    }

    /// Runs a program that must end soon, in this namespace.
    fn run(&self, line: &[&str]) -> Result<String, Error> {
        bounded("ip", &[&["netns", "exec", &self.namespace], line].concat())
    }

    /// A command that runs a program on this host. It ends with the thread that started it.
    #[must_use]
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", "nsenter"])
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Does some work on this host: the sockets that it makes are this host's, also afterwards.
    ///
    /// It runs on a thread of its own, which is gone when this returns; a process that it starts by [`Host::command`] is then as well.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, Error> {
        let path = self.path();
        let namespace = File::open(&path).context(format!("cannot open {}", path.display()))?;
        let on_host = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .context(format!("cannot enter {}", path.display()))?;
            Ok(work())
        };
        thread::scope(|scope| scope.spawn(on_host).join())
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// What has passed through this end of the link so far.
    pub fn traffic(&self) -> Result<Traffic, Error> {
        let printed = bounded(
            "ip",
            &[
                "-n",
                &self.namespace,
                "-s",
                "-j",
                "link",
                "show",
                "dev",
                LINK,
            ],
        )?;
        let links: Value = serde_json::from_str(&printed).context("what `ip -j` printed")?;
        let bytes = |direction: &str| {
            links[0]["stats64"][direction]["bytes"]
                .as_u64()
                .ok_or_else(|| Error::new(format!("`ip -s` names no {direction} bytes: {printed}")))
        };
        Ok(Traffic {
            sent: bytes("tx")?,
            received: bytes("rx")?,
        })
    }

    /// The queue of this end of the link, as `tc -s` shows it.
    pub fn queue_statistics(&self) -> Result<String, Error> {
        bounded(
            "tc",
            &["-n", &self.namespace, "-s", "qdisc", "show", "dev", LINK],
        )
    }

    fn path(&self) -> PathBuf {
        Path::new(NAMESPACES).join(&self.namespace)
    }

    fn raise(&self) -> Result<(), Error> {
        let ipv4 = format!("{}/24", self.ipv4);
        let ipv6 = format!("{}/64", self.ipv6);
        let host = ["-n", &self.namespace];
        for arguments in [
            &["link", "set", "lo", "up"][..],
            &["addr", "add", &ipv4, "dev", LINK],
            // Nobody else can have the address, and a test need not wait until the kernel is sure of it.
            &["addr", "add", &ipv6, "dev", LINK, "nodad"],
            &["link", "set", LINK, "up"],
        ] {
            bounded("ip", &[&host[..], arguments].concat())
                .context(format!("raising {}", self.namespace))?;
        }
        Ok(())
    }

    fn queue_rate(&self, rate: BitRate) -> Result<(), Error> {
        let bits = format!("{}bit", rate.bits());
        let burst = format!("{}b", rate.bytes_in_ms(BURST_MS).max(LEAST_BURST));
        self.queue(&[
            "replace", "dev", LINK, "root", "tbf", "rate", &bits, "burst", &burst, "latency", QUEUE,
        ])
    }

    fn queue(&self, arguments: &[&str]) -> Result<(), Error> {
        bounded(
            "tc",
            &[&["-n", &self.namespace, "qdisc"], arguments].concat(),
        )?;
        Ok(())
    }
}

/// Puts a cable between two namespaces; each end has its name there.
fn join(one: (&str, &str), other: (&str, &str)) -> Result<(), Error> {
    let (here, there) = (["-n", one.0, "link", "add", one.1, "type", "veth"], other);
    let peer = ["peer", "name", there.1, "netns", there.0];
    bounded("ip", &[&here[..], &peer].concat()).map(drop)
}

/// Takes all that comes out of a cable's end, and opens it for a program.
fn tap(namespace: &str, end: &str, unique: &str) -> Result<File, Error> {
    let tap = format!("tap-{end}");
    let in_it = ["-n", namespace, "link"];
    let make = [
        "add", "link", end, "name", &tap, "type", "macvtap", "mode", "passthru",
    ];
    bounded("ip", &[&in_it[..], &make].concat())?;
    // All: by itself it leaves out what is sent to groups that it is not in, and IPv6 finds its neighbours that way.
    let all = ["set", "dev", &tap, "allmulticast", "on"];
    let up = |name| ["set", "dev", name, "up"];
    for change in [&all[..], &up(end), &up(&tap)] {
        bounded("ip", &[&in_it[..], change].concat())?;
    }
    // Only inside is it seen; the number in the name is the interface's.
    let number = format!("cat /sys/class/net/{tap}/tap*/dev");
    let number = bounded("ip", &["netns", "exec", namespace, "sh", "-c", &number])?;
    delay::open(&number, unique)
}

/// Runs `ip` or `tc`, which must end soon.
fn bounded(program: &str, arguments: &[&str]) -> Result<String, Error> {
    run(Command::new("timeout")
        .args([PATIENCE_SECONDS, program])
        .args(arguments))
}

/// Removes the namespaces of processes that are no more: killed, they could not do it themselves.
fn remove_left_behind() {
    let names = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    for name in names.filter_map(|entry| entry.file_name().into_string().ok()) {
        let gone = maker(&name).is_some_and(|pid| !Path::new("/proc").join(pid).exists());
        if gone {
            // Another process may have been quicker.
            let _ = bounded("ip", &["netns", "del", &name]);
        }
    }
}

/// The process id in a namespace's name, if it is one of the lab's.
fn maker(namespace: &str) -> Option<&str> {
    let (pid, _) = namespace.strip_prefix(PREFIX)?.split_once('-')?;
    pid.bytes()
        .all(|byte| byte.is_ascii_digit())
        .then_some(pid)
        .filter(|pid| !pid.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_labs_own_namespaces_have_a_maker() {
        assert_eq!(maker("sealift-4711-0-a"), Some("4711"));
        for other in [
            "cni-4711",
            "sealift-",
            "sealift--0-a",
            "sealift-x1-0-a",
            "sealift-7",
        ] {
            assert_eq!(maker(other), None, "{other}");
        }
    }
}
