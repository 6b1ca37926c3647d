//! Secrets and guest memory stay out of logs: of their bytes, only the number is printed.

use core::fmt;

use super::stage::{StageChange, Verification};
use super::wire;

pub(super) struct Redacted<'a>(pub(super) &'a [u8]);

impl fmt::Debug for Redacted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// Prints the plain fields of a message, and of the others the length.
macro_rules! redacted {
    ($name:ident { $($plain:ident),* ; $($secret:ident),+ }) => {
        impl fmt::Debug for wire::$name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name))
                    $(.field(stringify!($plain), &self.$plain))*
                    $(.field(stringify!($secret), &Redacted(&self.$secret)))+
                    .finish()
            }
        }
    };
}

redacted!(LaneToken { lane; token });
redacted!(ReturnPath { ; data });
redacted!(Shares { ; ecdh, mlkem });
redacted!(Confirmation { ; value });
redacted!(Drained { batches; version_map });
redacted!(Prepared { batches; version_map });
redacted!(Verification { bytes, ranges; digest });

impl fmt::Debug for StageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The wire's form knows what to leave out.
        wire::StageChange::from(self.clone()).change.fmt(f)
    }
}

impl fmt::Debug for Verification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        wire::Verification::from(*self).fmt(f)
    }
}
