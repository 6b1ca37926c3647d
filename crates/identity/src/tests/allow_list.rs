use super::{Ca, SOURCE, source};
use crate::{AllowList, Peer};

fn peer() -> Peer {
    Peer::from_der(source(&Ca::new("CA").host(SOURCE)).own_certificate()).unwrap()
}

#[test]
fn only_a_named_peer_is_let_in() {
    AllowList::named(["gamma".into(), "BETA.example.org".into()])
        .admits(&peer())
        .unwrap();
    let refusal = AllowList::named(["example.org".into()])
        .admits(&peer())
        .unwrap_err();
    assert_eq!(
        refusal.to_string(),
        "beta.example.org may not bring guests here: the receiver's operator can allow it (--allow NAME)"
    );
}

#[test]
fn an_empty_list_lets_nobody_in() {
    assert!(AllowList::default().is_empty());
    AllowList::default().admits(&peer()).unwrap_err();
}

#[test]
fn a_list_for_any_lets_everybody_in() {
    assert!(!AllowList::any().is_empty());
    AllowList::any().admits(&peer()).unwrap();
}

#[test]
fn an_address_on_the_list_is_compared_by_value() {
    let host = Ca::new("CA").host("2001:db8::7");
    let peer = Peer::from_der(source(&host).own_certificate()).unwrap();
    AllowList::named(["2001:0db8::0007".into()])
        .admits(&peer)
        .unwrap();
}
