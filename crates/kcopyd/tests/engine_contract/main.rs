//! The engine's contract (`engine/mod.rs`), rule by rule, the same tests for every engine. To put another engine, or another
//! way to set one up, under the contract: write its `Fixture` and add one line at the end of this file.

mod fixture;
mod laboratory;
mod real;
mod rules;
mod simulated;
mod waking;

/// One test for each of these generic functions, in a module of the engine's name.
macro_rules! tests {
    ($engine:ident, $fixture:ty, $file:ident: $($rule:ident)*) => {
        mod $engine {
            $(
                #[test]
                fn $rule() {
                    crate::$file::$rule::<$fixture>();
                }
            )*
        }
    };
}

/// The nine rules.
macro_rules! contract {
    ($engine:ident, $fixture:ty) => {
        tests!($engine, $fixture, rules:
            rule_1_takes_whole_or_not_at_all
            rule_1_an_idle_engine_takes_any_chain
            rule_2_nothing_before_submit
            rule_3_writes_after_the_read
            rule_4_no_write_after_a_failed_read
            rule_4_no_write_after_a_short_read
            rule_5_failures_are_private
            rule_5_short_writes_are_private
            rule_6_one_completion_per_step
            rule_7_never_from_inside_stage
            rule_8_pages_are_the_engines_until_the_last_completion
            rule_8_blanks_are_zero_before_the_first_write
            rule_9_drop_drains
            rule_9_drop_starts_nothing
            p18_a_failed_flush_stays_failed
            p33_a_detached_device_is_let_go
            zeroes_can_be_written_from
            a_zero_step_zeroes_its_range_or_fails
        );
    };
}

/// What the waker promises; for engines that wait in real time.
macro_rules! waking {
    ($engine:ident, $fixture:ty) => {
        tests!($engine, $fixture, waking:
            a_ring_before_the_wait_ends_it
            a_ring_from_another_thread_ends_the_wait
            two_rings_before_a_look_are_one
            no_ring_is_lost
            a_wait_ends_at_its_deadline
        );
    };
}

contract!(simulated_engine, crate::simulated::SimulatedDisks);
contract!(threads_direct, crate::real::OnFiles<crate::real::MakeThreads, crate::real::DirectFiles>);
contract!(threads_buffered, crate::real::OnFiles<crate::real::MakeThreads, crate::real::BufferedFiles>);
contract!(fan_out_direct, crate::real::OnFiles<crate::real::MakeFanOut, crate::real::DirectFiles>);
contract!(fan_out_buffered, crate::real::OnFiles<crate::real::MakeFanOut, crate::real::BufferedFiles>);
contract!(linked_direct, crate::real::OnFiles<crate::real::MakeLinked, crate::real::DirectFiles>);
contract!(linked_buffered, crate::real::OnFiles<crate::real::MakeLinked, crate::real::BufferedFiles>);
contract!(plain_ring_direct, crate::real::OnFiles<crate::real::MakePlain, crate::real::DirectFiles>);
contract!(plain_ring_buffered, crate::real::OnFiles<crate::real::MakePlain, crate::real::BufferedFiles>);
waking!(threads_waking, crate::real::OnFiles<crate::real::MakeThreads, crate::real::BufferedFiles>);
waking!(ring_waking, crate::real::OnFiles<crate::real::MakeFanOut, crate::real::BufferedFiles>);
waking!(plain_ring_waking, crate::real::OnFiles<crate::real::MakePlain, crate::real::BufferedFiles>);
