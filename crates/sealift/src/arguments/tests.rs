//! The command lines that operators write.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser};

use super::receive::{Allowed, Origin};
use super::send::Destination;
use super::*;
use crate::outcome::Kind;

#[derive(Debug, Parser)]
#[command(name = "sealift")]
enum Sealift {
    Receive(receive::Arguments),
    Send(send::Arguments),
    Migrate(migrate::Arguments),
    Export(export::Arguments),
}

fn parse(line: &str) -> Result<Sealift, clap::Error> {
    Sealift::try_parse_from(line.split_whitespace())
}

fn receive(line: &str) -> receive::Arguments {
    match parse(&format!("sealift receive {line}")) {
        Ok(Sealift::Receive(arguments)) => arguments,
        other => panic!("{other:?}"),
    }
}

fn send(line: &str) -> send::Arguments {
    match parse(&format!("sealift send {line}")) {
        Ok(Sealift::Send(arguments)) => arguments,
        other => panic!("{other:?}"),
    }
}

fn migrate(line: &str) -> migrate::Arguments {
    match parse(&format!("sealift migrate {line}")) {
        Ok(Sealift::Migrate(arguments)) => arguments,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_definition_has_no_contradiction() {
    Sealift::command().debug_assert();
}

#[test]
fn a_receiver_listens_everywhere_and_takes_guests_of_those_it_allows() {
    let arguments = receive("--pki /p --qemu unix:/q --qmp /m --allow host-a --allow 192.0.2.1");
    let names = ["host-a".to_owned(), "192.0.2.1".to_owned()];
    assert_eq!(
        arguments.origin(),
        Origin::Network {
            listen: &"[::]:7325".parse().unwrap(),
            allowed: Allowed::Names(&names),
            once: false,
        }
    );
    assert_eq!(arguments.qemu, Some(Address::Unix("/q".into())));
    assert_eq!(arguments.qmp, Some(Address::Unix("/m".into())));
    assert_eq!(arguments.stdout(), Stdout::Free);
}

#[test]
fn a_receiver_at_standard_input_and_output_takes_one_guest_and_prints_nothing_there() {
    let arguments = receive("--allow-any --listen 127.0.0.1:0");
    assert_eq!(
        arguments.origin(),
        Origin::Network {
            listen: &"127.0.0.1:0".parse().unwrap(),
            allowed: Allowed::Any,
            once: true,
        }
    );
    assert_eq!(arguments.stdout(), Stdout::Stream);
    assert_eq!(
        arguments.output.face(true, arguments.stdout()),
        Face::Terminal(Stdout::Stream)
    );
}

#[test]
fn a_restore_listens_to_nobody_and_needs_to_allow_nobody() {
    let arguments = receive("--file web1.sealed --qemu tcp:127.0.0.1:4444");
    let file = PathBuf::from("web1.sealed");
    assert_eq!(arguments.origin(), Origin::File(&file));
}

#[test]
fn a_source_expects_the_name_that_it_was_told_to_go_to_or_the_one_given() {
    let to: Endpoint = "host-b:7325".parse().unwrap();
    let arguments = send("--to host-b --listen unix:/out --once");
    let expected = |peer_name| Destination::Receiver { to: &to, peer_name };
    assert_eq!(arguments.destination(), Ok(expected("host-b")));
    assert!(arguments.once());
    assert_eq!(arguments.stdout(), Stdout::Free);

    let arguments = send("--to host-b --peer-name mover.example");
    assert_eq!(arguments.destination(), Ok(expected("mover.example")));
    assert_eq!(arguments.stdout(), Stdout::Stream);

    let arguments = migrate("--qmp /m --to [fe80::7%eth0]");
    assert_eq!(arguments.peer_name(), "fe80::7");
}

#[test]
fn a_save_names_its_recipient() {
    let arguments = send("--file web1.sealed --recipient b.pem --listen unix:/out");
    let (file, recipient) = (PathBuf::from("web1.sealed"), PathBuf::from("b.pem"));
    assert_eq!(
        arguments.destination(),
        Ok(Destination::File {
            file: &file,
            recipient: &recipient
        })
    );
    assert!(arguments.once());

    let line = "--file web1.sealed --recipient b.pem --qmp /m --verify full";
    let refusal = send(line).destination().unwrap_err();
    assert_eq!(refusal.kind(), Kind::Usage);

    let line = "--file web1.sealed --recipient b.pem --if-not-converging abort";
    let refusal = send(line).destination().unwrap_err();
    assert_eq!(refusal.kind(), Kind::Usage);
}

#[test]
fn a_migration_has_its_usual_values_and_takes_others() {
    let usual = migrate("--qmp unix:/m --to host-b");
    assert_eq!(usual.transfer.max_downtime(), Duration::from_millis(300));
    assert_eq!(usual.transfer.suites(), Suite::ALL);
    assert_eq!(usual.transfer.verify, Verify::Pages);
    assert_eq!((usual.bandwidth, usual.transfer.lanes), (None, None));
    assert_eq!(usual.transfer.if_not_converging, IfNotConverging::Keep);
    assert!(!usual.no_live && !usual.keep_source && !usual.output.json);

    let other = migrate(
        "--qmp m.sock --to [::1]:1 --max-downtime 50ms --bandwidth 500Mbit --lanes 256 --suite p256 --verify full \
         --no-live --keep-source --json -v --journal /j --if-not-converging throttle",
    );
    assert_eq!(other.qmp, Address::Unix("m.sock".into()));
    assert_eq!(other.transfer.max_downtime(), Duration::from_millis(50));
    assert_eq!(other.bandwidth, "500Mbit".parse().ok());
    assert_eq!(other.transfer.lanes, Some(256));
    assert_eq!(other.transfer.suites(), [Suite::P256]);
    assert_eq!(other.transfer.verify, Verify::Full);
    assert!(other.no_live && other.keep_source && other.output.json && other.output.verbose);
    assert_eq!(other.records.journal, Some("/j".into()));
    assert_eq!(other.transfer.if_not_converging, IfNotConverging::Throttle);
}

#[test]
fn qmp_is_at_a_path_or_an_address() {
    for (text, address) in [
        ("/run/web1.qmp", "unix:/run/web1.qmp"),
        ("unix:/run/web1.qmp", "unix:/run/web1.qmp"),
        ("tcp:[::1]:4444", "tcp:[::1]:4444"),
        ("odd:name", "unix:odd:name"),
    ] {
        assert_eq!(qmp(text), address.parse(), "{text}");
    }
}

#[test]
fn an_export_says_that_it_is_plaintext() {
    match parse("sealift export --raw web1.sealed -o out --pki /p").unwrap() {
        Sealift::Export(arguments) => {
            assert_eq!(arguments.file, PathBuf::from("web1.sealed"));
            assert_eq!(arguments.output, Some("out".into()));
            assert_eq!(arguments.identity.pki, PathBuf::from("/p"));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_contradicts_itself_or_lacks_something_is_refused() {
    use ErrorKind::{ArgumentConflict, InvalidValue, MissingRequiredArgument, ValueValidation};
    for (line, kind) in [
        ("receive --qemu unix:/q", MissingRequiredArgument),
        ("receive --allow a --allow-any", ArgumentConflict),
        ("receive --file f --allow a", ArgumentConflict),
        ("receive --file f --listen [::]:1", ArgumentConflict),
        ("receive --allow a --qemu q", ValueValidation),
        ("receive --allow a --listen ::1", ValueValidation),
        ("send --listen unix:/out", MissingRequiredArgument),
        ("send --file f", MissingRequiredArgument),
        ("send --to b --recipient c", ArgumentConflict),
        ("send --to b --file f --recipient c", ArgumentConflict),
        (
            "send --file f --recipient c --peer-name b",
            ArgumentConflict,
        ),
        ("send --to b --guest web1 --qmp /m", ArgumentConflict),
        ("send --to b --verify full", MissingRequiredArgument),
        (
            "send --to b --if-not-converging throttle",
            MissingRequiredArgument,
        ),
        (
            "migrate --qmp /m --to b --if-not-converging no",
            InvalidValue,
        ),
        ("send --to b:0", ValueValidation),
        ("migrate --to b", MissingRequiredArgument),
        ("migrate --qmp /m", MissingRequiredArgument),
        ("migrate --qmp /m --to b --lanes 0", ValueValidation),
        ("migrate --qmp /m --to b --lanes 257", ValueValidation),
        ("migrate --qmp /m --to b --bandwidth 500M", ValueValidation),
        ("migrate --qmp /m --to b --max-downtime 5", ValueValidation),
        ("migrate --qmp /m --to b --suite rsa", InvalidValue),
        ("export web1.sealed", MissingRequiredArgument),
    ] {
        let error = parse(&format!("sealift {line}")).unwrap_err();
        assert_eq!(error.kind(), kind, "{line}: {error}");
        assert_eq!(error.exit_code(), 2);
    }
}

#[test]
fn a_wrong_value_is_told_with_a_right_one() {
    let error = parse("sealift migrate --qmp /m --to b --bandwidth 500M").unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("--bandwidth <RATE>") && text.contains("500Mbit or 62MiB/s"),
        "{text}"
    );
}

#[test]
fn help_teaches_with_a_paragraph_and_examples() {
    let mut command = Sealift::command();
    for name in ["receive", "send", "migrate", "export"] {
        let command = command.find_subcommand_mut(name).unwrap();
        let help = command.render_long_help().to_string();
        assert!(help.contains("Examples:\n"), "{name}");
        assert!(
            command.get_about().unwrap().to_string().len() < 60,
            "{name}"
        );
        assert!(
            command.get_long_about().unwrap().to_string().len() > 200,
            "{name}"
        );
        for argument in command.get_arguments() {
            assert!(argument.get_help().is_some(), "{name}: {argument:?}");
        }
    }
}
