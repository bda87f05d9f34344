//! What no rack can show in reasonable time: every code of the protocol, days of simulated time, a disk that fails. Existing tests prove it
//! and tell their figures; they are run by name here, and one that was not found has failed.

use super::{Place, unwritten};
use crate::check::{Miss, miss, proof};

/// One point.
#[derive(Debug)]
pub(super) struct Proven {
    pub(super) name: &'static str,
    /// Which tests of which binary: words of `cargo test`.
    binary: &'static [&'static str],
    tests: &'static [&'static str],
    /// What it sets in their environment.
    envs: &'static [(&'static str, &'static str)],
    /// What they tell.
    figures: &'static [Figure],
}

/// A figure that a test prints as `name value`.
#[derive(Debug)]
struct Figure {
    /// As the test calls it.
    printed: &'static str,
    name: &'static str,
    unit: &'static str,
    goal: Goal,
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    AtLeast(u64),
    AtMost(u64),
}

const LIB: &[&str] = &["-p", "farmhand", "--lib"];
const WIRE: &[&str] = &["-p", "farmhand", "--test", "wire"];

const fn figure(printed: &'static str, name: &'static str, unit: &'static str, goal: Goal) -> Figure {
    Figure { printed, name, unit, goal }
}

const fn proven(name: &'static str, binary: &'static [&'static str], tests: &'static [&'static str]) -> Proven {
    Proven { name, binary, tests, envs: &[], figures: &[] }
}

pub(super) const POINTS: &[Proven] = &[
    Proven {
        envs: &[("PHONES", "4"), ("NOTICES", "150"), ("KILLS", "4")],
        figures: &[
            figure("lost", "outbox.lost", "notices", Goal::AtMost(0)),
            figure("reordered", "outbox.reordered", "notices", Goal::AtMost(0)),
            figure(
                "duplicates_per_kill_and_phone",
                "outbox.duplicates_per_kill_and_phone",
                "notices",
                Goal::AtMost(64),
            ),
            figure("plaintext_hits", "outbox.plaintext_hits", "hits", Goal::AtMost(0)),
        ],
        ..proven(
            "store.killed_in_outages",
            &["-p", "farmhand", "--test", "outage"],
            &["whatever_kills_the_daemon_in_an_outage_nothing_that_was_acknowledged_is_lost"],
        )
    },
    Proven {
        figures: &[
            figure("protocol.codes_checked", "protocol.codes_checked", "codes", Goal::AtLeast(220)),
            figure("protocol.document_codes_checked", "protocol.document_codes_checked", "codes", Goal::AtLeast(85)),
            figure("policy.people_tasks_passed", "policy.people_tasks_passed", "codes", Goal::AtMost(0)),
        ],
        ..proven(
            "protocol.all_codes",
            WIRE,
            &[
                "table::all_220_codes_both_ways",
                "table::under_the_default_policy_exactly_these_pass",
                "table::no_number_acts_on_people_by_default",
                "table::all_allowed_leaves_out_what_is_never_a_phones",
                "codes::every_code_of_the_document_is_in_the_catalogue_as_the_document_says",
            ],
        )
    },
    Proven {
        figures: &[figure(
            "session.authentications_in_10_min",
            "session.authentications_in_10_min",
            "authentications",
            Goal::AtMost(3),
        )],
        ..proven(
            "bad_input.two_racks_in_simulated_time",
            LIB,
            &[
                "central::session::tests::two_racks::two_racks_with_one_identity_authenticate_three_times_in_ten_minutes_at_most",
                "central::session::tests::life::another_holder_of_the_credential_is_not_fought",
            ],
        )
    },
    proven(
        "session.backoff",
        LIB,
        &[
            "central::session::backoff::tests::pauses_grow_to_a_minute_and_are_spread",
            "central::session::tests::life::a_thousand_lines_of_a_restarted_server_do_not_come_at_once",
        ],
    ),
    proven(
        "session.tls_authorities",
        WIRE,
        &[
            "tls::a_certificate_of_a_known_authority_is_taken",
            "tls::a_certificate_for_another_name_is_not",
            "tls::one_of_an_unknown_authority_is_not_and_the_keys_that_help_are_named",
            "tls::one_that_is_over_is_not_and_both_times_are_told",
        ],
    ),
    proven(
        "policy.stop_never_refused",
        LIB,
        &["central::policy::tests::stopping_an_act_is_never_refused_and_the_desktops_words_always_are"],
    ),
    proven("session.keep_alive", LIB, &["central::line::server::tests::the_system_watches_over_each_connection"]),
    // Its world sets the clock of the wall, back and forth.
    Proven {
        envs: &[("SEEDS", "20")],
        ..proven("session.clock_steps", &["-p", "farmhand", "--test", "sim"], &["three_hundred_seeds"])
    },
    proven(
        "store.age",
        LIB,
        &["store::outbox::tests::what_is_too_old_is_removed_and_time_in_which_nothing_runs_is_not_counted"],
    ),
    proven(
        "store.any_operations",
        LIB,
        &[
            "central::relay::tests::outages::operations::nothing_that_was_acknowledged_is_lost",
            "central::relay::tests::operations::no_list_of_operations_loses_or_turns_what_an_agent_has_said",
        ],
    ),
    proven(
        "bad_input.store_fails",
        LIB,
        &[
            "store::outbox::tests::a_file_that_cannot_be_written_says_so_and_loses_nothing",
            "store::outbox::tests::a_file_that_is_damaged_while_it_is_used_is_put_aside_and_numbers_go_on",
            "central::relay::tests::outages::a_disk_that_fails_or_is_full_stops_the_acknowledgements_and_then_the_agent",
        ],
    ),
    proven("bad_input.fuzz_corpora", WIRE, &["corpus::every_target_is_replayed", "corpus::the_corpora_break_nothing"]),
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    let proven = POINTS.iter().find(|proven| proven.name == point);
    let (Some(proven), Some(command)) = (proven, &place.proof) else { return unwritten(point) };
    let words = [proven.binary, &["--", "--exact", "--nocapture"], proven.tests].concat();
    let output = proof::output(command, &words, proven.envs).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let expected = format!("{} passed", proven.tests.len());
    if !output.status.success() || !said.contains(&expected) {
        let seen = format!("{}: {} / {}", output.status, proof::end_of(&output.stdout), proof::end_of(&output.stderr));
        return Err(miss(&expected, seen));
    }
    let mut seen = format!("{expected}: {}", proven.tests.join(", "));
    for figure in proven.figures {
        seen += &format!("\n{}", figure.of(&said)?);
    }
    Ok(seen)
}

impl Figure {
    /// The worst that was printed, as a line of the results.
    fn of(&self, said: &str) -> Result<String, Miss> {
        let words: Vec<&str> = said.split_whitespace().collect();
        let values = words.windows(2).filter(|pair| pair.first() == Some(&self.printed));
        let values = values.filter_map(|pair| pair.last()?.parse::<u64>().ok());
        let (worst, sign, goal) = match self.goal {
            Goal::AtLeast(goal) => (values.min().filter(|value| *value >= goal), ">=", goal),
            Goal::AtMost(goal) => (values.max().filter(|value| *value <= goal), "<=", goal),
        };
        let Self { name, unit, printed, .. } = self;
        let worst = worst.ok_or_else(|| miss(&format!("{printed} {sign} {goal}"), proof::end_of(said.as_bytes())))?;
        Ok(format!("RESULT {name} {worst} {unit} goal {sign} {goal}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_figures_counts() {
        let figure = figure("lost", "outbox.lost", "notices", Goal::AtMost(0));
        assert_eq!(figure.of("ack Each lost 0 x\nack Late lost 0").unwrap(), "RESULT outbox.lost 0 notices goal <= 0");
        assert!(figure.of("ack Each lost 0\nack Late lost 2").is_err());
        assert!(figure.of("nothing was counted").is_err());
    }
}
