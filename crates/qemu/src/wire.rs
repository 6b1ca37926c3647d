//! The frame of QMP, on bytes alone: cutting what arrives into lines, telling the kinds of message
//! apart, and writing commands. No sockets here.

use serde_json::{Map, Value};

use crate::{Error, Event, Version};

/// No line may be longer. The longest that QEMU sends is its answer to `query-qmp-schema`, 236 KB in
/// 10.0; 16 MiB is far beyond it and still bounds what a wrong peer can make this process hold.
pub(crate) const MAX_LINE: usize = 16 << 20;

/// Collects bytes until they make a line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    buffer: Vec<u8>,
    /// Up to here no newline was found, so that a line in many pieces is searched once.
    searched: usize,
}

impl Lines {
    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end; empty lines are skipped.
    pub(crate) fn next_line(&mut self) -> Result<Option<Vec<u8>>, Error> {
        loop {
            let unsearched = self.buffer.get(self.searched..).unwrap_or_default();
            let Some(offset) = unsearched.iter().position(|&byte| byte == b'\n') else {
                self.searched = self.buffer.len();
                return if self.buffer.len() > MAX_LINE {
                    Err(too_long())
                } else {
                    Ok(None)
                };
            };
            let end = self.searched + offset;
            let rest = self.buffer.split_off(end + 1);
            let mut line = std::mem::replace(&mut self.buffer, rest);
            self.searched = 0;
            line.pop();
            if line.len() > MAX_LINE {
                return Err(too_long());
            }
            if line.iter().any(|byte| !byte.is_ascii_whitespace()) {
                return Ok(Some(line));
            }
        }
    }
}

fn too_long() -> Error {
    Error::LineTooLong { limit: MAX_LINE }
}

/// One message from QEMU. Fields that are not known are passed over.
#[derive(Debug)]
pub(crate) enum Message {
    Greeting(Version),
    Answer {
        id: Option<u64>,
        outcome: Outcome,
    },
    Event(Event),
    /// An object of no known kind: a later QEMU's, to be ignored.
    Unknown,
}

/// How a command ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    Return(Value),
    Error { class: String, description: String },
}

impl Message {
    pub(crate) fn parse(line: &[u8]) -> Result<Self, Error> {
        let value: Value = serde_json::from_slice(line).map_err(|error| Error::Malformed {
            problem: error.to_string(),
        })?;
        let Value::Object(mut object) = value else {
            return Err(Error::Malformed {
                problem: "a JSON value that is not an object".to_owned(),
            });
        };
        if let Some(greeting) = object.get("QMP") {
            return Ok(Self::Greeting(version(greeting)));
        }
        let id = object.get("id").and_then(Value::as_u64);
        if let Some(value) = object.remove("return") {
            return Ok(Self::Answer {
                id,
                outcome: Outcome::Return(value),
            });
        }
        if let Some(error) = object.get("error") {
            let outcome = Outcome::Error {
                class: text(error, "class"),
                description: text(error, "desc"),
            };
            return Ok(Self::Answer { id, outcome });
        }
        Ok(event(object).map_or(Self::Unknown, Self::Event))
    }
}

fn version(greeting: &Value) -> Version {
    let qemu = &greeting["version"]["qemu"];
    let number = |field: &str| {
        qemu[field]
            .as_u64()
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(0)
    };
    Version {
        major: number("major"),
        minor: number("minor"),
        micro: number("micro"),
        package: text(&greeting["version"], "package"),
    }
}

fn event(mut object: Map<String, Value>) -> Option<Event> {
    let name = object.get("event")?.as_str()?.to_owned();
    let data = object.remove("data").unwrap_or(Value::Null);
    let at_ns = nanoseconds(&object).unwrap_or(0);
    Some(Event { name, data, at_ns })
}

/// QEMU says -1 for both parts when its clock fails, and a later one may leave the time out.
fn nanoseconds(event: &Map<String, Value>) -> Option<u64> {
    let time = event.get("timestamp")?;
    let seconds = time["seconds"].as_u64()?.checked_mul(1_000_000_000)?;
    seconds.checked_add(time["microseconds"].as_u64()?.checked_mul(1_000)?)
}

fn text(value: &Value, field: &str) -> String {
    value[field].as_str().unwrap_or_default().to_owned()
}

/// A command as a line. `arguments` is left out when it is null.
pub(crate) fn command(name: &str, arguments: Value, id: u64) -> Vec<u8> {
    let mut object = Map::new();
    object.insert("execute".to_owned(), name.into());
    if !arguments.is_null() {
        object.insert("arguments".to_owned(), arguments);
    }
    object.insert("id".to_owned(), id.into());
    let mut line = Value::Object(object).to_string().into_bytes();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_come_out_whole_however_the_bytes_arrive() {
        let input = b"{\"a\":1}\r\n\r\n\n{\"b\":2}\n{\"c\"";
        for size in 1..input.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for piece in input.chunks(size) {
                lines.push(piece);
                while let Some(line) = lines.next_line().unwrap() {
                    found.push(String::from_utf8(line).unwrap().trim_end().to_owned());
                }
            }
            assert_eq!(found, ["{\"a\":1}", "{\"b\":2}"], "in pieces of {size}");
        }
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = Lines::default();
        lines.push(&vec![b' '; MAX_LINE]);
        assert!(matches!(lines.next_line(), Ok(None)));
        lines.push(b"  ");
        assert!(matches!(lines.next_line(), Err(Error::LineTooLong { .. })));
    }

    #[test]
    fn the_greeting_gives_the_version() {
        let line = br#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}, "capabilities": ["oob"]}}"#;
        let Message::Greeting(version) = Message::parse(line).unwrap() else {
            panic!("no greeting")
        };
        assert_eq!((version.major, version.minor, version.micro), (7, 2, 22));
        assert_eq!(version.to_string(), "7.2.22 (Debian)");
    }

    #[test]
    fn answers_carry_their_number_and_outcome() {
        let Message::Answer {
            id: Some(4),
            outcome: Outcome::Return(value),
        } = Message::parse(br#"{"return": {"running": true}, "id": 4, "later": []}"#).unwrap()
        else {
            panic!("no return")
        };
        assert_eq!(value, json!({"running": true}));

        let line = br#"{"error": {"class": "GenericError", "desc": "no"}}"#;
        let Message::Answer {
            id: None,
            outcome: Outcome::Error { class, description },
        } = Message::parse(line).unwrap()
        else {
            panic!("no error")
        };
        assert_eq!(
            (class.as_str(), description.as_str()),
            ("GenericError", "no")
        );
    }

    #[test]
    fn events_and_unknown_messages_are_tolerated() {
        let line = br#"{"event": "NEVER_HEARD_OF", "data": {"x": 1}, "timestamp": {"seconds": 1}}"#;
        let Message::Event(event) = Message::parse(line).unwrap() else {
            panic!("no event")
        };
        assert_eq!(
            (event.name.as_str(), event.data),
            ("NEVER_HEARD_OF", json!({"x": 1}))
        );
        assert!(matches!(
            Message::parse(b"{\"other\": 1}").unwrap(),
            Message::Unknown
        ));
    }

    #[test]
    fn an_event_knows_its_time_or_says_zero() {
        for (time, nanoseconds) in [
            (
                r#"{"seconds": 1795273854, "microseconds": 342028}"#,
                1_795_273_854_342_028_000,
            ),
            (r#"{"seconds": -1, "microseconds": -1}"#, 0),
            (r#"{"seconds": 18446744073709551615, "microseconds": 0}"#, 0),
            ("7", 0),
        ] {
            let line = format!(r#"{{"event": "STOP", "timestamp": {time}}}"#);
            let Message::Event(event) = Message::parse(line.as_bytes()).unwrap() else {
                panic!("no event")
            };
            assert_eq!(event.at_ns, nanoseconds, "{time}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_refused() {
        for line in [&b"SSH-2.0-OpenSSH"[..], b"[1]", b"\xff\xfe", b"{"] {
            assert!(
                matches!(Message::parse(line), Err(Error::Malformed { .. })),
                "{line:?}"
            );
        }
    }

    #[test]
    fn a_command_is_one_line() {
        let line = command("cont", Value::Null, 7);
        assert_eq!(line, b"{\"execute\":\"cont\",\"id\":7}\n");
        let line = command("x", json!({"text": "a\nb"}), 1);
        assert_eq!(line.iter().filter(|&&byte| byte == b'\n').count(), 1);
    }
}
