//! The kinds of operation, made from the list of all operations.

use std::fmt;

use crate::op::operations;

macro_rules! op_codes {
    ($(
        $code:ident $call:literal, $ways:literal,
        $($(#[$attr:meta])* $folder:ident::$file:ident { $($name:ident),+ }),* ;
    )+) => {
        /// The kinds of operation, for statistics and reports.
        ///
        /// The ways are those on a ring / on the readiness driver. An opcode that the kernel lacks
        /// or refuses takes the way of the readiness driver, on a ring too.
        ///
        /// | kind | futures and types of [`op`](crate::op) | way |
        /// |---|---|---|
        $(#[doc = concat!(
            "| `", $call, "` | ", $($("`", stringify!($name), "` ",)+)* "| ", $ways, " |"
        )])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum OpCode { $(#[doc = concat!("`", $call, "(2)`")] $code),+ }

        impl OpCode {
            /// All kinds of operations.
            pub const ALL: &'static [OpCode] = &[$(OpCode::$code),+];

            /// Returns the name of the system call that does the same.
            ///
            /// # Examples
            /// ```
            /// assert_eq!(corio::OpCode::Recv.name(), "recv");
            /// ```
            pub fn name(self) -> &'static str {
                match self { $(OpCode::$code => $call),+ }
            }
        }
    };
}

operations!(op_codes);

impl fmt::Display for OpCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
