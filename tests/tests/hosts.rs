//! Two hosts on one machine: what they send arrives, at the link's rate, and not when the link is cut.
#![allow(
    clippy::unwrap_used,
    reason = "the tests share functions, and these are tests as well"
)]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use sealift_lab::guest::{Launch, PATIENCE};
use sealift_lab::hosts::{Host, Hosts};
use sealift_lab::qemu::{self, Machine};
use sealift_lab::rate::BitRate;
use sealift_lab::tools;

/// For what must not happen; longer would only make the test slower.
const NOT_LONG: Duration = Duration::from_secs(1);

/// A connection from the first host to an address of the second: both its ends.
fn connect(hosts: &Hosts, address: IpAddr) -> (TcpStream, TcpStream) {
    let listen = || TcpListener::bind(SocketAddr::new(address, 0)).unwrap();
    let listener = hosts.b().within(listen).unwrap();
    let to = listener.local_addr().unwrap();
    let connect = || TcpStream::connect_timeout(&to, PATIENCE).unwrap();
    let from_a = hosts.a().within(connect).unwrap();
    let (at_b, _) = listener.accept().unwrap();
    for end in [&from_a, &at_b] {
        end.set_nodelay(true).unwrap();
        end.set_read_timeout(Some(PATIENCE)).unwrap();
    }
    (from_a, at_b)
}

fn passes(from: &mut TcpStream, to: &mut TcpStream) {
    let mut received = [0; 4];
    from.write_all(b"ping").unwrap();
    to.read_exact(&mut received).unwrap();
    assert_eq!(&received, b"ping");
}

fn queue(host: &Host) -> String {
    host.queue_statistics().unwrap()
}

#[test]
fn each_host_reaches_the_other_and_no_third() {
    tools::install().unwrap();
    let hosts = Hosts::new().unwrap();
    for address in [hosts.b().ipv4(), hosts.b().ipv6()] {
        let (mut a, mut b) = connect(&hosts, address);
        passes(&mut a, &mut b);
        passes(&mut b, &mut a);
        assert_eq!(b.local_addr().unwrap().ip(), address);
    }
    let traffic = hosts.a().traffic().unwrap();
    assert!(traffic.sent > 0 && traffic.received > 0, "{traffic:?}");

    // The same addresses in another pair are other hosts.
    let others = Hosts::new().unwrap();
    let listen = || TcpListener::bind(SocketAddr::new(hosts.b().ipv4(), 0)).unwrap();
    let listener = hosts.b().within(listen).unwrap();
    let to = listener.local_addr().unwrap();
    let refused = others
        .a()
        .within(|| TcpStream::connect_timeout(&to, PATIENCE));
    assert!(refused.unwrap().is_err());
}

#[test]
fn a_shaped_link_sends_through_a_token_bucket_of_that_rate() {
    tools::install().unwrap();
    let mut hosts = Hosts::new().unwrap();
    hosts.shape(BitRate::mbit(200)).unwrap();
    let (mut a, mut b) = connect(&hosts, hosts.b().ipv4());
    passes(&mut a, &mut b);
    for host in [hosts.a(), hosts.b()] {
        let queue = queue(host);
        assert!(
            queue.contains("tbf") && queue.contains("rate 200Mbit"),
            "{queue}"
        );
        // It is not only there: what was sent went through it.
        assert!(!queue.contains("Sent 0 bytes"), "{queue}");
    }
}

#[test]
fn what_is_sent_to_a_distant_host_is_so_long_on_its_way_and_arrives_whole() {
    const DELAY: Duration = Duration::from_millis(20);
    tools::install().unwrap();
    let mut hosts = Hosts::distant(DELAY).unwrap();
    hosts.shape(BitRate::mbit(200)).unwrap();
    for address in [hosts.b().ipv4(), hosts.b().ipv6()] {
        let (mut a, mut b) = connect(&hosts, address);
        let start = Instant::now();
        passes(&mut a, &mut b);
        passes(&mut b, &mut a);
        assert!(start.elapsed() >= 2 * DELAY);

        // Far more than one packet, at whatever size the kernel makes them.
        let sent: Vec<u8> = (0..2u32 << 20).map(|place| (place % 251) as u8).collect();
        let mut received = vec![0; sent.len()];
        std::thread::scope(|scope| {
            scope.spawn(|| a.write_all(&sent).unwrap());
            b.read_exact(&mut received).unwrap();
        });
        assert!(received == sent);
    }
}

#[test]
fn a_cut_link_loses_what_is_sent_and_a_healed_one_is_as_before() {
    tools::install().unwrap();
    let mut hosts = Hosts::new().unwrap();
    for shaped in [false, true] {
        if shaped {
            hosts.shape(BitRate::mbit(100)).unwrap();
        }
        let (mut a, mut b) = connect(&hosts, hosts.b().ipv6());
        passes(&mut a, &mut b);

        hosts.cut().unwrap();
        a.write_all(b"lost").unwrap();
        b.set_read_timeout(Some(NOT_LONG)).unwrap();
        let mut received = [0; 4];
        let nothing = b.read(&mut received).unwrap_err();
        assert_eq!(nothing.kind(), std::io::ErrorKind::WouldBlock);

        hosts.heal().unwrap();
        // The same connection: TCP sends again what was lost.
        b.set_read_timeout(Some(PATIENCE)).unwrap();
        b.read_exact(&mut received).unwrap();
        assert_eq!(&received, b"lost");
        assert_eq!(queue(hosts.a()).contains("tbf"), shaped);
    }
}

#[test]
fn a_guest_runs_on_a_host_and_its_control_socket_is_reached_from_outside() {
    let qemu = qemu::all().unwrap().remove(0);
    let hosts = Hosts::new().unwrap();
    let mut guest = Launch::new(&qemu, &qemu.machine(Machine::I440fx))
        .on(hosts.b())
        .start()
        .unwrap();
    guest.wait_tick(1).unwrap();
    let network_of = |pid: &str| std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
    let on_b = hosts.b().within(|| network_of("thread-self")).unwrap();
    assert_eq!(network_of(&guest.pid().to_string()), on_b);
    assert_ne!(on_b, network_of("self"));
}

#[test]
fn hosts_are_gone_once_they_are_dropped_also_after_a_panic() {
    tools::install().unwrap();
    let namespaces = || {
        let mine = format!("sealift-{}-", std::process::id());
        let names = std::fs::read_dir("/run/netns").unwrap().flatten();
        let names = names.map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name.starts_with(&mine)).count()
    };
    // Other tests of this process have hosts of their own: this one runs in a process that has none.
    if std::env::var_os("ALONE").is_none() {
        let this = "hosts_are_gone_once_they_are_dropped_also_after_a_panic";
        let test = std::env::current_exe().unwrap();
        let mut again = std::process::Command::new(test);
        let status = again.args(["--exact", this]).env("ALONE", "1").status();
        assert!(status.unwrap().success());
        return;
    }
    let panicked = std::panic::catch_unwind(|| {
        let hosts = Hosts::new().unwrap();
        assert_eq!(namespaces(), 2);
        hosts
            .a()
            .within(|| panic!("as a failing test does"))
            .unwrap();
    });
    assert!(panicked.is_err());
    assert_eq!(namespaces(), 0);
}
