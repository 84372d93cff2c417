//! The codes of abort frames, and the refusals among them.

/// All codes in one table: what a code is for, its name and number, and what it means to who receives it.
macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $number:literal, $meaning:literal;)+) => {
        /// The reason that an abort frame gives to the other party. It never depends on a secret.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u16)]
        pub enum AbortCode {
            $($(#[doc = $doc])+ $name = $number,)+
        }

        impl AbortCode {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// What it means to who receives it, in words.
            pub fn meaning(self) -> &'static str {
                match self {
                    $(Self::$name => $meaning,)+
                }
            }
        }
    };
}

codes! {
    /// The hello is not one of this protocol and version.
    Version = 1, "it speaks another version of the protocol";
    /// A message that the protocol does not allow here.
    Protocol = 2, "it received a message that the protocol does not allow";
    /// Too many sessions or slots.
    Busy = 3, "it is busy with too many sessions";
    /// A slot that does not exist or was used.
    Slot = 4, "the inference slot does not exist or was used";
    /// The plan or the published model is not acceptable.
    Plan = 5, "it does not accept the plan";
    /// The published model is not the one that was pinned or seen before.
    Digest = 6, "it does not accept the model's digest";
    /// No progress.
    Timeout = 7, "it waited too long";
    /// An error of the sender's own.
    Internal = 8, "it failed";
    /// The checksums of both ends differ.
    Changed = 9, "bytes changed in transit; TLS would notice where they do";
    /// The server was asked to end, and did so between two requests.
    Stopping = 10, "it was asked to end; what it was doing, it has done";
    /// What the client has is not what the network reads.
    Input = 11, "its inputs are not what the network reads";
    /// Logits were asked for, and the server reveals the class only.
    ClassOnly = 16, "it reveals the class only";
    /// The client's inferences of this hour are used up. The high byte of the code says how many minutes it has to wait.
    Quota = 17, "the inferences of this hour are used up";
    /// The server's key is past its lifetime.
    SpentKey = 18, "its key is past its lifetime";
    /// All sessions are taken. The high byte of the code says how many seconds to wait.
    Full = 19, "it is full";
    /// The client is none of those that the server answers.
    Unknown = 20, "it does not know this client";
    /// The server has no model of that name.
    NoModel = 21, "it has no model of that name";
    /// The server has several models, and none was named.
    WhichModel = 22, "it has several models, and none was named";
    /// The client failed an audit, now or earlier.
    ShutOut = 23, "it has shut this client out, which failed an audit";
    /// The server guards itself, and the client did not ask for a guarded session.
    Guarded = 24, "it answers guarded sessions alone";
    /// A guarded session was asked for, and the server has none.
    Unguarded = 25, "it has no guarded sessions";
    /// A training was asked for, and the server answers inferences.
    NoTraining = 26, "it answers inferences and trains nothing";
    /// An inference was asked for, and the server is a party of a training.
    OnlyTraining = 27, "it trains with a data owner and answers no inferences";
}

impl AbortCode {
    /// The code of a number in an abort frame, and what its high byte says more; `None` if this version does not know it.
    pub fn of_number(number: u16) -> Option<(Self, u8)> {
        let [low, detail] = number.to_le_bytes();
        let code = *Self::ALL.iter().find(|code| **code as u16 == u16::from(low))?;
        (detail == 0 || code.has_detail()).then_some((code, detail))
    }

    /// What a peer's code means, in words.
    pub fn describe(number: u16) -> &'static str {
        Self::of_number(number).map_or("it gave a code that this version does not know", |(code, _)| code.meaning())
    }

    /// True if the high byte says how long to wait.
    fn has_detail(self) -> bool {
        matches!(self, Self::Quota | Self::Full)
    }
}

/// Why a server does not do what a client asks for, as both ends know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Logits were asked for.
    #[error("this server reveals the class only, and logits were asked for")]
    ClassOnly,
    /// Too many inferences in this hour.
    #[error("the server's quota of inferences per hour is used up; there will be more in {} min", wait_minutes)]
    Quota {
        /// Minutes until there will be more, at least 1.
        wait_minutes: u8,
    },
    /// The server's key is past its lifetime.
    #[error("the server's key is past its lifetime")]
    SpentKey,
    /// The client is none of those that the server answers.
    #[error("the server does not know this client")]
    Unknown,
    /// All sessions are taken.
    #[error("the server is full; there may be room in {} s", wait_seconds)]
    Full {
        /// Seconds after which to try again, at least 1.
        wait_seconds: u8,
    },
    /// A model was asked for that is not there.
    #[error("the server has no model of that name")]
    NoModel,
    /// The server has several models, and none was named.
    #[error("the server has several models, and none was named")]
    WhichModel,
    /// The client failed an audit, now or earlier.
    #[error("the server has shut this client out, which failed an audit")]
    ShutOut,
    /// The session is not guarded.
    #[error("the server answers guarded sessions alone")]
    Guarded,
    /// A guarded session was asked for.
    #[error("the server has no guarded sessions")]
    Unguarded,
    /// A training was asked for.
    #[error("the server answers inferences and trains nothing")]
    NoTraining,
    /// An inference was asked for, of a party of a training.
    #[error("the server trains with a data owner and answers no inferences")]
    OnlyTraining,
}

impl Refusal {
    /// The code of the abort frame.
    pub fn code(self) -> AbortCode {
        match self {
            Self::ClassOnly => AbortCode::ClassOnly,
            Self::Quota { .. } => AbortCode::Quota,
            Self::SpentKey => AbortCode::SpentKey,
            Self::Full { .. } => AbortCode::Full,
            Self::Unknown => AbortCode::Unknown,
            Self::NoModel => AbortCode::NoModel,
            Self::WhichModel => AbortCode::WhichModel,
            Self::ShutOut => AbortCode::ShutOut,
            Self::Guarded => AbortCode::Guarded,
            Self::Unguarded => AbortCode::Unguarded,
            Self::NoTraining => AbortCode::NoTraining,
            Self::OnlyTraining => AbortCode::OnlyTraining,
        }
    }

    /// What the frame says more.
    pub(crate) fn detail(self) -> u8 {
        match self {
            Self::Quota { wait_minutes } => wait_minutes,
            Self::Full { wait_seconds } => wait_seconds,
            Self::ClassOnly | Self::SpentKey | Self::Unknown => 0,
            Self::NoModel | Self::WhichModel | Self::ShutOut | Self::Guarded | Self::Unguarded => 0,
            Self::NoTraining | Self::OnlyTraining => 0,
        }
    }

    /// The refusal that a number in an abort frame means; `None` if it means something else.
    pub(crate) fn of_number(number: u16) -> Option<Self> {
        let (code, detail) = AbortCode::of_number(number)?;
        match code {
            AbortCode::ClassOnly => Some(Self::ClassOnly),
            AbortCode::Quota => Some(Self::Quota { wait_minutes: detail.max(1) }),
            AbortCode::SpentKey => Some(Self::SpentKey),
            AbortCode::Full => Some(Self::Full { wait_seconds: detail.max(1) }),
            AbortCode::Unknown => Some(Self::Unknown),
            AbortCode::NoModel => Some(Self::NoModel),
            AbortCode::WhichModel => Some(Self::WhichModel),
            AbortCode::ShutOut => Some(Self::ShutOut),
            AbortCode::Guarded => Some(Self::Guarded),
            AbortCode::Unguarded => Some(Self::Unguarded),
            AbortCode::NoTraining => Some(Self::NoTraining),
            AbortCode::OnlyTraining => Some(Self::OnlyTraining),
            AbortCode::Version
            | AbortCode::Protocol
            | AbortCode::Busy
            | AbortCode::Slot
            | AbortCode::Plan
            | AbortCode::Digest
            | AbortCode::Timeout
            | AbortCode::Internal
            | AbortCode::Changed
            | AbortCode::Stopping
            | AbortCode::Input => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_survives_the_frame() {
        for refusal in [
            Refusal::ClassOnly,
            Refusal::Quota { wait_minutes: 1 },
            Refusal::Quota { wait_minutes: 60 },
            Refusal::SpentKey,
            Refusal::Full { wait_seconds: 1 },
            Refusal::Full { wait_seconds: 255 },
            Refusal::Unknown,
            Refusal::NoModel,
            Refusal::WhichModel,
            Refusal::ShutOut,
            Refusal::Guarded,
            Refusal::Unguarded,
            Refusal::NoTraining,
            Refusal::OnlyTraining,
        ] {
            let number = u16::from_le_bytes([refusal.code() as u8, refusal.detail()]);
            assert_eq!(Refusal::of_number(number), Some(refusal), "{refusal}");
            assert_eq!(AbortCode::describe(number), refusal.code().meaning(), "{refusal}");
        }
        for number in (0..16).chain(28..256) {
            assert_eq!(Refusal::of_number(number), None, "{number}");
        }
    }

    /// `docs/protocol.md` has the same codes, each once, and no others.
    #[test]
    fn codes_are_the_documented_ones() {
        let page = include_str!("../docs/protocol.md");
        let table = page.split("| code | what it says of its sender |").nth(1).expect("the table of codes");
        let rows: Vec<&str> = table.lines().skip(2).take_while(|line| line.starts_with('|')).collect();
        let own = |code: &AbortCode| format!("| {} | {} |", *code as u16, code.meaning());
        assert_eq!(rows, AbortCode::ALL.iter().map(own).collect::<Vec<_>>());
    }

    /// No other number means anything, and none a second thing.
    #[test]
    fn numbers_and_codes_are_each_others() {
        let mut known = 0;
        for number in 0..=u16::MAX {
            let Some((code, detail)) = AbortCode::of_number(number) else { continue };
            assert_eq!(u16::from_le_bytes([code as u8, detail]), number, "{code:?}");
            known += 1;
        }
        assert_eq!(known, AbortCode::ALL.len() - 2 + 2 * 256, "two say how long to wait");
        let odd = AbortCode::ClassOnly as u16 | 0x0100;
        assert_eq!(AbortCode::of_number(odd), None, "a detail where none belongs");
        assert!(AbortCode::describe(odd).contains("does not know"));
    }
}
