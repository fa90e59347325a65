//! Workers whose scripts fail at random, combined with everything that the model does to them.

use crate::model;

/// Chance in 10,000 that one of the writing commands of a script is refused.
const OF_10_000: u32 = 500;

#[tokio::test(flavor = "multi_thread")]
async fn whatever_command_fails_jobs_end_as_the_model_says() {
    let drawn = std::env::var("FAULTS_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    tokio::join!(model::play(11, OF_10_000), model::play(12, OF_10_000), model::play(drawn, OF_10_000));
}
