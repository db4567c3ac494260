//! When a job is taken for the cause of the end of its processes (pure).
//!
//! An attempt *vanishes* when its lease ends without an answer. That alone accuses nobody: all attempts of a process vanish with
//! it. So a job that has vanished twice is a suspect, and a pool of workers executes one suspect at a time. The next suspect to
//! end its process takes no other suspect with it, and every other job answers sooner or later, which resets its count.

/// From this many vanished attempts in a row, a job is a suspect.
pub(crate) const SUSPECT_AFTER: u32 = 2;

/// At this many vanished attempts in a row, a job is quarantined. High enough that a process which is killed from outside every
/// 200 ms, in the middle of one attempt in three, quarantines no job.
pub(crate) const QUARANTINE_AFTER: u32 = 10;

/// How many attempts in a row may vanish while [`Handler::quarantine`](super::Handler::quarantine) reports a quarantine. After them
/// the job is given up without a report.
const REPORTS: u32 = 2;

/// What to do with a job that was claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Execute it, together with any other job.
    Trusted,
    /// Execute it, but no other suspect with it.
    Suspect,
    /// Do not execute it. Report the quarantine.
    Quarantine,
    /// Do not execute it, and report nothing: the reports vanished, too.
    GiveUp,
}

/// The verdict about a job of which so many attempts in a row vanished.
pub(crate) fn verdict(vanished: u32) -> Verdict {
    match vanished {
        0..SUSPECT_AFTER => Verdict::Trusted,
        SUSPECT_AFTER..QUARANTINE_AFTER => Verdict::Suspect,
        _ if vanished <= QUARANTINE_AFTER + REPORTS => Verdict::Quarantine,
        _ => Verdict::GiveUp,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_verdict_follows_the_number_of_vanished_attempts() {
        let verdicts: Vec<Verdict> = [0, 1, 2, 9, 10, 12, 13, u32::MAX].map(verdict).to_vec();
        use Verdict::{GiveUp, Quarantine, Suspect, Trusted};
        assert_eq!(verdicts, [Trusted, Trusted, Suspect, Suspect, Quarantine, Quarantine, GiveUp, GiveUp]);
    }

    /// A process dies with every job it has in flight, for as long as the killer is not quarantined.
    fn quarantined(jobs: usize, killer: usize, order: &[usize]) -> Vec<usize> {
        let mut vanished = vec![0u32; jobs];
        for lifetime in 0..(QUARANTINE_AFTER as usize * (jobs + 1) * 2) {
            if verdict(vanished[killer]) == Verdict::Quarantine {
                break;
            }
            // In one lifetime, suspects are executed one after the other, in any order; those before the killer answer.
            let start = order[lifetime % order.len()];
            for offset in 0..jobs {
                let job = (start + offset) % jobs;
                if job != killer && verdict(vanished[job]) == Verdict::Suspect {
                    vanished[job] = 0;
                }
                if job == killer && verdict(vanished[job]) == Verdict::Suspect {
                    break;
                }
            }
            // The process dies: the killer vanishes, and so does every job that is trusted.
            for (job, count) in vanished.iter_mut().enumerate() {
                if job == killer || verdict(*count) == Verdict::Trusted {
                    *count += 1;
                }
            }
        }
        (0..jobs).filter(|job| verdict(vanished[*job]) == Verdict::Quarantine).collect()
    }

    proptest! {
        #[test]
        fn only_the_job_that_ends_its_processes_is_quarantined(
            jobs in 1usize..12, killer in 0usize..12, order in prop::collection::vec(0usize..12, 1..40),
        ) {
            let killer = killer % jobs;
            prop_assert_eq!(quarantined(jobs, killer, &order), vec![killer]);
        }
    }
}
