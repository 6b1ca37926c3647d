//! Certificates as QEMU's and libvirt's documentation make them: `fixtures/make.sh`.

use tempfile::TempDir;

use super::wire::connect;
use super::write;
use crate::{AllowList, Pki, Side};
use rustls_pki_types::PrivateKeyDer;

const CA: &[u8] = include_bytes!("../../fixtures/ca-cert.pem");
const SERVER: (&[u8], &[u8]) = (
    include_bytes!("../../fixtures/server-cert.pem"),
    include_bytes!("../../fixtures/server-key.pem"),
);
const CLIENT: (&[u8], &[u8]) = (
    include_bytes!("../../fixtures/client-cert.pem"),
    include_bytes!("../../fixtures/client-key.pem"),
);
const COMMON_NAME: (&[u8], &[u8]) = (
    include_bytes!("../../fixtures/common-name-cert.pem"),
    include_bytes!("../../fixtures/common-name-key.pem"),
);
const SEC1: (&[u8], &[u8]) = (
    include_bytes!("../../fixtures/sec1-cert.pem"),
    include_bytes!("../../fixtures/sec1-key.pem"),
);

type Names = [&'static str; 5];
const QEMU: Names = [
    "ca-cert.pem",
    "server-cert.pem",
    "server-key.pem",
    "client-cert.pem",
    "client-key.pem",
];
const LIBVIRT: Names = [
    "cacert.pem",
    "servercert.pem",
    "serverkey.pem",
    "clientcert.pem",
    "clientkey.pem",
];
const LIBVIRT_SYSTEM: Names = [
    "CA/cacert.pem",
    "libvirt/servercert.pem",
    "libvirt/private/serverkey.pem",
    "libvirt/clientcert.pem",
    "libvirt/private/clientkey.pem",
];

fn host(names: Names, server: (&[u8], &[u8])) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    let files = [CA, server.0, server.1, CLIENT.0, CLIENT.1];
    for (name, bytes) in names.iter().zip(files) {
        // As libvirt's group may read them.
        write(&directory, name, bytes, 0o640);
    }
    directory
}

#[test]
fn they_work_in_every_layout() {
    for names in [QEMU, LIBVIRT, LIBVIRT_SYSTEM] {
        let directory = host(names, SERVER);
        let source = Pki::for_source(directory.path()).unwrap();
        let receiver = Pki::for_receiver(directory.path()).unwrap();
        assert!(matches!(
            receiver.private_key_der(),
            PrivateKeyDer::Pkcs1(_)
        ));
        for name in ["alpha.example.org", "192.0.2.7"] {
            let outcome = connect(&source, &receiver, name);
            assert_eq!(
                outcome.source.unwrap().names,
                ["alpha.example.org", "192.0.2.7"]
            );
            let peer = outcome.receiver.unwrap();
            assert_eq!(peer.names, ["beta.example.org"]);
            AllowList::named(["beta.example.org".into()])
                .admits(&peer)
                .unwrap();
        }
    }
}

#[test]
fn a_receiver_with_only_a_common_name_is_called_by_it() {
    let directory = host(QEMU, COMMON_NAME);
    let source = Pki::for_source(directory.path()).unwrap();
    let receiver = Pki::for_receiver(directory.path()).unwrap();
    connect(&source, &receiver, "gamma.example.org")
        .source
        .unwrap();
    let refusal = connect(&source, &receiver, "alpha.example.org")
        .source
        .unwrap_err();
    assert!(
        refusal
            .to_string()
            .contains("is for gamma.example.org, not for alpha.example.org"),
        "{refusal}"
    );
}

#[test]
fn a_key_as_openssl_writes_it_beside_its_parameters_works() {
    let directory = host(QEMU, SEC1);
    let source = Pki::for_source(directory.path()).unwrap();
    let receiver = Pki::for_receiver(directory.path()).unwrap();
    assert_eq!(receiver.side(), Side::Receiver);
    assert!(matches!(receiver.private_key_der(), PrivateKeyDer::Sec1(_)));
    connect(&source, &receiver, "delta.example.org")
        .receiver
        .unwrap();
}
