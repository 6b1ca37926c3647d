//! Channels against the system's own sockets and pipes.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;

use rustix::pipe::{PipeFlags, pipe_with};

use super::*;
use crate::Address;

/// Generous: it only ends what hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// For what must not come.
const NOT_LONG: Duration = Duration::from_millis(50);

fn over_socket() -> (Channel, UnixStream) {
    let (theirs, channel) = Channel::pair().unwrap();
    (channel, theirs.into())
}

/// The channel, what writes to it, and what reads from it.
fn over_pipes() -> (Channel, fs::File, fs::File) {
    let (read, to_us) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let (from_us, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let channel = Channel::new(Arc::new(read), Arc::new(write)).unwrap();
    (channel, to_us.into(), from_us.into())
}

fn unix(path: &std::path::Path) -> Address {
    Address::Unix(path.to_owned())
}

#[test]
fn what_one_end_says_the_other_reads() {
    let (channel, mut qemu) = over_socket();
    let (mut from, mut to) = channel.split();
    qemu.write_all(b"stream").unwrap();
    let mut buffer = [0; 16];
    assert_eq!(
        from.read_within(&mut buffer, Some(PATIENCE)).unwrap(),
        ReadOutcome::Bytes(6)
    );
    assert_eq!(
        from.read_within(&mut buffer, Some(NOT_LONG)).unwrap(),
        ReadOutcome::Quiet
    );
    assert_eq!(
        from.read_within(&mut [], None).unwrap(),
        ReadOutcome::Bytes(0)
    );

    let pieces = [IoSlice::new(b"re"), IoSlice::new(b"turn")];
    assert_eq!(to.write_vectored(&pieces).unwrap(), 6);
    drop(to);
    let mut said = String::new();
    qemu.read_to_string(&mut said).unwrap();
    assert_eq!(said, "return");

    drop(qemu);
    assert_eq!(
        from.read_within(&mut buffer, None).unwrap(),
        ReadOutcome::End
    );
}

#[test]
fn more_than_the_system_holds_waits_for_the_reader() {
    let (channel, qemu, mut from_us) = over_pipes();
    let (from, mut to) = channel.split();
    let sent: Vec<u8> = (0..1_u32 << 20).flat_map(u32::to_ne_bytes).collect();
    let expected = sent.clone();
    let writer = thread::spawn(move || to.write_all(&sent));
    let mut received = Vec::new();
    from_us.read_to_end(&mut received).unwrap();
    writer.join().unwrap().unwrap();
    assert!(received == expected);
    drop((from, qemu));
}

#[test]
fn a_read_that_waits_ends_when_the_channel_is_closed() {
    let (socket, _qemu) = over_socket();
    let (pipes, _to_us, _from_us) = over_pipes();
    for channel in [socket, pipes] {
        let closer = channel.closer();
        let (mut from, _to) = channel.split();
        let reader = thread::spawn(move || from.read(&mut [0; 16]).unwrap_err().kind());
        closer.close();
        assert_eq!(reader.join().unwrap(), ErrorKind::ConnectionAborted);
    }
}

#[test]
fn a_write_that_waits_ends_when_the_channel_is_closed() {
    let (socket, _qemu) = over_socket();
    let (pipes, _to_us, _from_us) = over_pipes();
    for channel in [socket, pipes] {
        let closer = channel.closer();
        let (_from, mut to) = channel.split();
        let (sender, full) = std::sync::mpsc::channel();
        let writer = thread::spawn(move || {
            loop {
                // Nobody reads: after some of these it waits.
                match to.write_all(&[0; 4096]) {
                    Ok(()) => drop(sender.send(())),
                    Err(error) => return error.kind(),
                }
            }
        });
        full.recv().unwrap();
        closer.close();
        closer.close();
        assert_eq!(writer.join().unwrap(), ErrorKind::ConnectionAborted);
    }
}

#[test]
fn a_closer_that_is_kept_does_not_keep_the_channel_open() {
    let (channel, mut qemu) = over_socket();
    let closer = channel.closer();
    drop(channel.split());
    assert_eq!(qemu.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(qemu.write(&[0]).unwrap_err().kind(), ErrorKind::BrokenPipe);
    closer.close();
}

#[test]
fn closing_a_socket_is_seen_at_once_though_the_halves_live() {
    let (channel, mut qemu) = over_socket();
    let closer = channel.closer();
    let halves = channel.split();
    closer.close();
    assert_eq!(qemu.read(&mut [0; 1]).unwrap(), 0);
    drop(halves);
}

#[test]
fn a_send_buffer_can_be_small_on_a_socket_and_is_as_it_is_on_a_pipe() {
    let (socket, _qemu) = over_socket();
    let before = rustix::net::sockopt::socket_send_buffer_size(&*socket.write).unwrap();
    socket.set_send_buffer(16 << 10).unwrap();
    assert!(rustix::net::sockopt::socket_send_buffer_size(&*socket.write).unwrap() < before);
    let (pipes, _to_us, _from_us) = over_pipes();
    pipes.set_send_buffer(16 << 10).unwrap();
}

#[test]
fn a_qemu_that_is_still_starting_is_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let connecting = thread::spawn({
        let address = unix(&path);
        move || Channel::connect(&address, PATIENCE)
    });
    let listener = Listener::bind(&unix(&path)).unwrap();
    assert!(listener.accept(Some(PATIENCE)).unwrap().is_some());
    connecting.join().unwrap().unwrap();
}

#[test]
fn where_nobody_listens_the_error_says_what_qemu_must_do() {
    let directory = tempfile::tempdir().unwrap();
    let error = Channel::connect(&unix(&directory.path().join("none")), NOT_LONG).unwrap_err();
    assert!(error.to_string().contains("-incoming unix:"), "{error}");
    // Somebody has had this port and let it go.
    let address = Listener::bind(&"tcp:127.0.0.1:1".parse::<Address>().map(free_port).unwrap())
        .unwrap()
        .address()
        .clone();
    let error = Channel::connect(&address, NOT_LONG).unwrap_err();
    assert!(
        matches!(&error, ChannelError::Connect { source, .. } if source.kind() == ErrorKind::ConnectionRefused),
        "{error}"
    );
}

fn free_port(address: Address) -> Address {
    match address {
        Address::Tcp { host, .. } => Address::Tcp { host, port: 0 },
        other => other,
    }
}

#[test]
fn tcp_carries_a_channel_over_both_families() {
    for host in ["127.0.0.1", "::1"] {
        let wanted = Address::Tcp {
            host: host.to_owned(),
            port: 0,
        };
        let listener = match Listener::bind(&wanted) {
            Ok(listener) => listener,
            // A machine without IPv6.
            Err(ChannelError::Listen { source, .. })
                if host == "::1" && source.kind() == ErrorKind::AddrNotAvailable =>
            {
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        assert_eq!(
            listener.address().to_string().parse::<Address>().unwrap(),
            *listener.address()
        );
        let ours = Channel::connect(listener.address(), PATIENCE).unwrap();
        let theirs = listener.accept(Some(PATIENCE)).unwrap().unwrap();
        drop(ours.split().1.write_all(b"x"));
        let mut said = Vec::new();
        theirs.split().0.read_to_end(&mut said).unwrap();
        assert_eq!(said, b"x");
        assert!(matches!(
            Listener::bind(listener.address()),
            Err(ChannelError::Taken { .. })
        ));
    }
}

#[test]
fn a_listener_that_nobody_connects_to_gives_up_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let listener = Listener::bind(&unix(&directory.path().join("socket"))).unwrap();
    assert!(listener.accept(Some(NOT_LONG)).unwrap().is_none());
}

#[test]
fn a_unix_socket_is_its_owners_alone_and_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = Listener::bind(&unix(&path)).unwrap();
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    drop(listener);
    assert!(!path.exists());
}

#[test]
fn a_socket_that_an_ended_process_left_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let listener = Listener::bind(&unix(&path)).unwrap();
    UnixStream::connect(&path).unwrap();
    assert!(listener.accept(Some(PATIENCE)).unwrap().is_some());
}

#[test]
fn a_socket_in_use_is_left_alone_and_does_not_notice() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let owner = UnixListener::bind(&path).unwrap();
    let error = Listener::bind(&unix(&path)).unwrap_err();
    assert!(matches!(error, ChannelError::Taken { .. }), "{error}");
    assert!(path.exists());
    owner.set_nonblocking(true).unwrap();
    assert_eq!(owner.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_file_is_not_displaced() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("file");
    fs::write(&path, "precious").unwrap();
    let error = Listener::bind(&unix(&path)).unwrap_err();
    assert!(matches!(error, ChannelError::NotASocket { .. }), "{error}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

#[test]
fn what_took_the_sockets_place_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = Listener::bind(&unix(&path)).unwrap();
    fs::remove_file(&path).unwrap();
    fs::write(&path, "another's").unwrap();
    drop(listener);
    assert!(path.exists());
}
