//! Connections that break at any moment, and what is heard all the same.

use std::collections::VecDeque;

use proptest::prelude::*;
use sealift_session::control::{Bytes, Frame, Message, StageChange, wire};
use sealift_session::correspondence::{Correspondence, Unheard};

use super::ends::arrives;

fn numbered(number: u32) -> Message {
    Message::ReturnPath(Bytes::new("", number.to_be_bytes().to_vec()).unwrap())
}

#[derive(Clone, Debug)]
enum Step {
    /// One end says something that must be heard.
    Say(usize),
    /// Or something that need not be.
    Murmur(usize),
    /// What is on its way to an end arrives, so many messages of it.
    Arrive(usize, usize),
    /// An end tells what it has heard.
    Tell(usize),
    /// All that is on its way is lost, and a new connection made.
    Break,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..2usize).prop_map(Step::Say),
        1 => (0..2usize).prop_map(Step::Murmur),
        4 => (0..2usize, 1..4usize).prop_map(|(end, many)| Step::Arrive(end, many)),
        2 => (0..2usize).prop_map(Step::Tell),
        2 => Just(Step::Break),
    ]
}

#[derive(Default)]
struct Ends {
    ends: [Correspondence; 2],
    /// What is on its way to each.
    ways: [VecDeque<Frame>; 2],
    said: [u32; 2],
    heard: [Vec<Message>; 2],
}

impl Ends {
    fn put(&mut self, end: usize, message: Message) {
        let frame = self.ends[end].say(message).unwrap();
        self.ways[1 - end].push_back(frame);
    }

    fn arrive(&mut self, end: usize, many: usize) {
        for _ in 0..many {
            let Some(frame) = self.ways[end].pop_front() else {
                return;
            };
            let message = arrives(&frame).message;
            self.ends[end].hear(&message);
            match message {
                Message::Ping(ping) => self.ends[end].was_heard(ping.heard).unwrap(),
                message if message.must_be_heard() => self.heard[end].push(message),
                _ => {}
            }
        }
    }

    fn reconnect(&mut self) {
        self.ways = [const { VecDeque::new() }; 2];
        for end in [0, 1] {
            let heard = self.ends[1 - end].heard();
            let again: Vec<_> = self.ends[end].again(heard).unwrap().collect();
            self.ways[1 - end].extend(again);
        }
    }
}

proptest! {
    #[test]
    fn all_is_heard_once_and_in_order(steps in prop::collection::vec(step(), 0..80)) {
        let mut ends = Ends::default();
        for step in steps {
            match step {
                Step::Say(end) => {
                    ends.put(end, numbered(ends.said[end]));
                    ends.said[end] += 1;
                }
                Step::Murmur(end) => ends.put(end, Message::Progress(wire::Progress::default())),
                Step::Arrive(end, many) => ends.arrive(end, many),
                Step::Tell(end) => {
                    let heard = ends.ends[end].heard();
                    ends.put(end, Message::Ping(wire::Ping { heard, ..wire::Ping::default() }));
                }
                Step::Break => ends.reconnect(),
            }
        }
        ends.reconnect();
        for end in [0, 1] {
            ends.arrive(end, usize::MAX);
            let expected: Vec<_> = (0..ends.said[1 - end]).map(numbered).collect();
            prop_assert_eq!(&ends.heard[end], &expected);
        }
    }
}

#[test]
fn a_peer_that_heard_what_was_never_said_or_has_forgotten_is_found_out() {
    let mut end = Correspondence::new();
    let never = Unheard::NeverSaid { heard: 1, said: 0 };
    assert_eq!(end.was_heard(1), Err(never));
    for _ in 0..3 {
        end.say(Message::StageChange(StageChange::PreCopy)).unwrap();
    }
    end.was_heard(2).unwrap();
    // Said before that, and read late.
    end.was_heard(1).unwrap();
    assert_eq!(end.again(2).unwrap().count(), 1);
    let forgotten = Unheard::Forgotten {
        heard: 1,
        before: 2,
    };
    assert_eq!(end.again(1).err(), Some(forgotten));
    assert_eq!(
        end.again(4).err(),
        Some(Unheard::NeverSaid { heard: 4, said: 3 })
    );
}

#[test]
fn what_is_kept_is_bounded() {
    let mut end = Correspondence::new();
    let long = Message::ReturnPath(Bytes::new("", vec![0; 64 << 10]).unwrap());
    let kept = (0..100)
        .take_while(|_| end.say(long.clone()).is_ok())
        .count();
    assert_eq!(kept, 63);
    end.was_heard(60).unwrap();
}
