//! Planted bugs, one at a time, to see that the simulator finds them: `npm run sim -- --canaries`. A line of the mind or of the
//! engines' bookkeeper says `canary!(Name)` where the bug would be; that is `false` in every build but the simulator's, and a
//! build without debug assertions refuses to have any.

#[cfg(all(feature = "canary", not(debug_assertions)))]
compile_error!("canaries are for the simulator alone; a build without debug assertions must not have them");

/// Whether the bug of this name is planted.
#[cfg(feature = "canary")]
macro_rules! canary {
    ($name:ident) => {
        $crate::canary::is_planted($crate::canary::Canary::$name)
    };
}

/// Whether the bug of this name is planted: never, in this build.
#[cfg(not(feature = "canary"))]
macro_rules! canary {
    ($name:ident) => {
        $crate::canary::none_is_planted()
    };
}

/// What stands for every canary in this build. A function, because a bare `false` in a condition is taken for a mistake.
#[cfg(not(feature = "canary"))]
#[inline(always)]
pub(crate) const fn none_is_planted() -> bool {
    false
}

#[cfg(feature = "canary")]
pub use planted::{Canary, is_planted, plant, plant_everywhere};

#[cfg(feature = "canary")]
mod planted {
    use std::cell::Cell;
    use std::sync::OnceLock;

    macro_rules! canaries {
        ($($name:ident: $what:literal,)*) => {
            /// A bug that can be planted.
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub enum Canary {
                $(#[doc = $what] $name,)*
            }

            impl Canary {
                /// All of them.
                pub const ALL: &[Canary] = &[$(Canary::$name),*];

                /// What the bug is.
                #[must_use]
                pub fn what(self) -> &'static str {
                    match self {
                        $(Canary::$name => $what,)*
                    }
                }
            }
        };
    }

    canaries! {
        ShortIsSuccess: "a short result is taken for a full one",
        EmptyIsSuccess: "a zero-length result is taken for a full one",
        NotAttemptedIsSuccess: "a write that was not attempted is taken for done",
        RetriesForEver: "there is no bound on results without progress",
        KeepsUnaligned: "what comes after a short result is not aligned",
        NeighbourIsBlamed: "the first failure counts, though it may be a neighbour's",
        GivesUpTheRest: "with errors ignored, the rest of a piece is given up with its bad page",
        StaleAfterBadRead: "what could not be read is written as it was found in memory",
        PaddingIsStale: "the padding behind a file's last byte is not zeroed",
        WritesFollowAnyRead: "the writes of a piece follow a read that does not complete it",
        FirstIsSpared: "what could not be read is no gap in the first destination",
        RemainderFromTheStart: "what is left after a short result is written from the beginning of the memory",
        ChainIsSplit: "a chain for which there is no room comes back without its read",
        PagesRoundedDown: "a piece gets a page too few",
        PagesLeak: "the pages of a piece that is over are not given back if its job is stopping",
        GoesOnTooEarly: "a piece goes on while its last step is out",
        WithdrawsWhatIsWritten: "a stopping job takes back a piece that is written in part",
        WrongBit: "the fourth destination's error is blamed on the third",
        ErrorDoesNotStop: "the first error does not stop a job",
        AbortIsForgotten: "an aborted job goes on",
        PrefixBeyondFailure: "the prefix reaches to the end of what failed",
        LastReadErrorWins: "the read error is the last one, not the first",
        FlushFailureIsForgotten: "a failed flush is taken for done",
        FlushesTooEarly: "a flush goes out while a piece is under way",
        NoFlushAfterError: "after an error of one destination the others are not flushed",
        FlushDoesNotWait: "a flush starts with the write that it is to come after",
        SequentialIgnoresErrors: "a sequential job does not stop at an error if errors are ignored",
        OvertakesInSequence: "a sequential piece is written before its turn",
        SequentialZeroesDoNotWait: "a sequential piece of zeroes is begun before its turn",
        LostOnEagain: "a piece that is to be tried again is forgotten",
        CompletionIsLost: "a step that was not attempted is not said to be over",
        CompletionTwice: "a step is said to be over twice",
        WritesDoNotWait: "the writes of a chain start with its read",
        ShortReadIsFull: "the writes of a chain start after a short read",
        TakesWithoutRoom: "a chain is taken though there is no room for it",
        OverlapOffByOne: "regions that overlap by one sector are let through",
        BoundsOffByOne: "a region that ends one sector past its device's end is let through",
        FailuresJoinApart: "failures with a page between them are listed as one",
        ThrottleIsForgotten: "a throttle lets everything through",
        RequestsChargedLate: "throttled pieces are let through before the requests of the last one are charged",
        LastComeFirstServed: "pages go to the job that came last",
        ZeroesOvertake: "pieces of zeroes overtake those that have to read",
        DoubtComesLate: "a failure is looked into only when the rest of its chain is home",
        DoubtIsForgotten: "new pieces are begun while a failure is looked into",
    }

    /// What a thread begins with.
    static EVERYWHERE: OnceLock<Canary> = OnceLock::new();

    thread_local! {
        static PLANTED: Cell<Option<Canary>> = Cell::new(EVERYWHERE.get().copied());
    }

    /// Plants a bug, the first one it is called with, in every thread that begins later.
    pub fn plant_everywhere(canary: Canary) {
        EVERYWHERE.get_or_init(|| canary);
    }

    /// Plants one bug, or none, in everything that this thread does from now on.
    pub fn plant(canary: Option<Canary>) {
        PLANTED.set(canary);
    }

    /// Whether this bug is planted.
    #[must_use]
    pub fn is_planted(canary: Canary) -> bool {
        PLANTED.get() == Some(canary)
    }
}
