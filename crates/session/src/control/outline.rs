//! A look at an envelope before prost decodes it: which kind it is, whether that is critical, and how many fields it has.
//!
//! ```text
//!   Envelope:  critical = 1   (2 to 15: kept)   kind ≥ 16: [ field, field, field … ]
//!                                                └ exactly one      └ counted
//! ```
//!
//! prost alone would decode a kind that is to be skipped as nothing, take the last of two kinds, and turn two bytes of an
//! empty list entry into a hundred of memory.

use core::ops::RangeInclusive;

use super::frame::{FrameError, LEN_MAX_BEFORE_HELLO};

/// Fields that a kind may have: twice what the longest list, 1,024 entries, needs.
pub const FIELDS_MAX: usize = 2048;

/// Numbers of kinds; those below stand beside the kind.
const FIRST_KIND: u64 = 16;
/// The kinds of this version: the members of `Envelope`'s oneof, which has no holes.
const KNOWN_KINDS: RangeInclusive<u64> = FIRST_KIND..=34;
const HELLO: u64 = 16;
const CHOICE: u64 = 18;
const ERROR: u64 = 31;
const PLACING: u64 = 34;
const CRITICAL: u64 = 1;
/// What protobuf allows as the number of a field.
const NUMBERS: RangeInclusive<u64> = 1..=(1 << 29) - 1;

/// What can be said of an envelope from outside.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Outline {
    critical: bool,
    kind: u64,
}

impl Outline {
    pub(super) fn of(envelope: &[u8]) -> Result<Self, FrameError> {
        let mut critical = false;
        let mut kind = None;
        for field in Fields::of(envelope) {
            let Field { number, value } = field?;
            match (number, value, kind) {
                (CRITICAL, Value::Number(value), _) => critical = value != 0,
                (CRITICAL, ..) => return Err(FrameError::Malformed),
                (FIRST_KIND.., value, None) => {
                    if KNOWN_KINDS.contains(&number) {
                        check_kind(number, value)?;
                    }
                    kind = Some(number);
                }
                (FIRST_KIND.., _, Some(first)) => {
                    return Err(FrameError::TwoKinds {
                        first,
                        second: number,
                    });
                }
                _ => {}
            }
        }
        Ok(Self {
            critical,
            kind: kind.ok_or(FrameError::NoKind)?,
        })
    }

    /// The number of the kind.
    pub(super) const fn kind(self) -> u64 {
        self.kind
    }

    pub(super) const fn is_critical(self) -> bool {
        self.critical
    }

    pub(super) fn is_known(self) -> bool {
        KNOWN_KINDS.contains(&self.kind)
    }

    /// May come before the peer's hello has been accepted.
    pub(super) const fn may_be_first(self) -> bool {
        matches!(self.kind, HELLO | ERROR)
    }
}

fn check_kind(kind: u64, value: Value<'_>) -> Result<(), FrameError> {
    let Value::Bytes(message) = value else {
        return Err(FrameError::Malformed);
    };
    // Their lists of numbers grow to eight bytes in memory for each one on the wire.
    if matches!(kind, HELLO..=CHOICE | PLACING) && message.len() > LEN_MAX_BEFORE_HELLO {
        let found = message.len();
        return Err(FrameError::KindTooLong { kind, found });
    }
    check_nested(message, shape(kind))?;
    for (index, field) in Fields::of(message).enumerate() {
        field?;
        if index >= FIELDS_MAX {
            return Err(FrameError::TooManyFields { kind });
        }
    }
    Ok(())
}

/// The same bounds for a message that comes in no envelope and has one message in it, field `within`, whose field `list` is a list of
/// messages.
pub(crate) fn check_message(message: &[u8], within: u64, list: u64) -> Result<(), FrameError> {
    let mut fields = 0;
    let mut deeper = alloc::vec![(message, 0)];
    while let Some((message, depth)) = deeper.pop() {
        for field in Fields::of(message) {
            let Field { number, value } = field?;
            fields += 1;
            if fields > 2 * FIELDS_MAX {
                return Err(FrameError::TooManyFields { kind: within });
            }
            match value {
                Value::Bytes(inner) if depth == 0 && number == within => deeper.push((inner, 1)),
                // No groups of old in there either, which prost would follow.
                Value::Bytes(inner) if depth == 1 && number == list => {
                    for field in Fields::of(inner) {
                        field?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Which fields of a message are messages of this version, and which fields of theirs.
struct Shape(&'static [(RangeInclusive<u64>, Shape)]);

/// The shape of a kind, by its number in `Envelope`.
const fn shape(kind: u64) -> Shape {
    match kind {
        // Offer.mirror, Choice.mirror and .destination, Admission.blocks
        17 => Shape(&[(6..=6, Shape(&[]))]),
        18 => Shape(&[(5..=6, Shape(&[]))]),
        19 => Shape(&[(4..=4, Shape(&[]))]),
        // Verdict's two, and the lists of LaneTokens and Acknowledgement
        20 => Shape(&[(1..=2, Shape(&[]))]),
        23 | 24 => Shape(&[(1..=1, Shape(&[]))]),
        // StageChange's ten, of which Abort has an Error
        26 => Shape(&[(9..=9, Shape(&[(1..=1, Shape(&[]))])), (1..=10, Shape(&[]))]),
        _ => Shape(&[]),
    }
}

/// prost would skip a group of old anywhere; [`Fields`] takes none. As deep as the schema goes, four levels.
fn check_nested(message: &[u8], Shape(messages): Shape) -> Result<(), FrameError> {
    for field in Fields::of(message) {
        let Field { number, value } = field?;
        let inner = messages
            .iter()
            .find(|(numbers, _)| numbers.contains(&number));
        if let (Value::Bytes(message), Some((_, Shape(inner)))) = (value, inner) {
            check_nested(message, Shape(inner))?;
        }
    }
    Ok(())
}

/// A field of a protobuf message.
struct Field<'a> {
    number: u64,
    value: Value<'a>,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Number(u64),
    Fixed,
    Bytes(&'a [u8]),
}

/// The fields of a protobuf message; ends with the first that is none.
struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    const fn of(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn field(&mut self) -> Option<Field<'a>> {
        let key = self.varint()?;
        let value = match key & 7 {
            0 => Value::Number(self.varint()?),
            1 => {
                self.take(8)?;
                Value::Fixed
            }
            2 => {
                let len = self.varint()?;
                Value::Bytes(self.take(len)?)
            }
            5 => {
                self.take(4)?;
                Value::Fixed
            }
            // 3 and 4 are the groups of old, which would nest without bound; 6 and 7 are nothing.
            _ => return None,
        };
        let number = key >> 3;
        NUMBERS.contains(&number).then_some(Field { number, value })
    }

    /// Protobuf's varint: unlike a record's it may be longer than needed.
    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..u64::BITS).step_by(7) {
            let (&byte, rest) = self.rest.split_first()?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(taken)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<Field<'a>, FrameError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field().ok_or(FrameError::Malformed);
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use prost::Message as _;

    use super::*;
    use crate::control::wire;

    /// An envelope with an empty kind of that number.
    fn empty_kind(number: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        prost::encoding::encode_varint(number << 3 | 2, &mut bytes);
        bytes.push(0);
        bytes
    }

    #[test]
    fn the_known_kinds_are_those_of_the_proto_file() {
        let known = |&number: &u64| {
            wire::Envelope::decode(empty_kind(number).as_slice())
                .unwrap()
                .kind
                .is_some()
        };
        let found: Vec<_> = (CRITICAL + 1..1000).filter(known).collect();
        assert_eq!(found, KNOWN_KINDS.collect::<Vec<_>>());
        let named = |number| {
            wire::Envelope::decode(empty_kind(number).as_slice())
                .unwrap()
                .kind
        };
        assert!(matches!(named(HELLO), Some(wire::envelope::Kind::Hello(_))));
        assert!(matches!(named(ERROR), Some(wire::envelope::Kind::Error(_))));
    }

    #[test]
    fn what_is_no_protobuf_is_malformed() {
        for bytes in [
            &[0x80][..],         // a key cut short
            &[0x02, 0],          // field 0
            &[0x08],             // a number cut short
            &[0x82, 0x01, 5, 0], // bytes cut short
            &[0x09, 0, 0, 0],    // fixed64 cut short
            &[0x0b, 0x0c],       // a group
            &[0x0f],             // wire type 7
            &[
                0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
            ],
            &[0x0a, 0],                                     // critical that is no number
            &[0x80, 0x01, 5],                               // a known kind that is a number
            &[0x82, 0x01, 1, 0x0b],                         // a group within a kind
            &[0x9a, 0x01, 4, 0x22, 2, 0x7b, 0x7c],          // within a RAM block
            &[0xd2, 0x01, 6, 0x4a, 4, 0x0a, 2, 0x7b, 0x7c], // within an abort's error
        ] {
            assert_eq!(Outline::of(bytes), Err(FrameError::Malformed), "{bytes:x?}");
        }
    }
}
