//! Enumerations without the "unspecified" that protobuf wants in each.

/// Declares an enumeration and its way from and to the wire's.
macro_rules! enumeration {
    ($(#[$meta:meta])* $name:ident = $wire:path { $($(#[$doc:meta])* $variant:ident,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }

        impl $name {
            /// Each of them, in the wire's order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            pub(crate) fn from_wire(
                field: &'static str,
                found: i32,
            ) -> Result<Self, $crate::control::Invalid> {
                use $wire as Wire;
                match Wire::try_from(found) {
                    $(Ok(Wire::$variant) => Ok(Self::$variant),)*
                    Ok(Wire::Unspecified) | Err(_) => {
                        Err($crate::control::Why::Enumerator { found }.of(field))
                    }
                }
            }

            pub(crate) fn to_wire(self) -> i32 {
                use $wire as Wire;
                match self {
                    $(Self::$variant => Wire::$variant.into(),)*
                }
            }
        }
    };
}

pub(super) use enumeration;
