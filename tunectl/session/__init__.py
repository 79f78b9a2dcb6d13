"""An open study: its folder is opened, its workload probed, its trials trained and recorded, its tables written.

Two doors lead into a study folder. To run in it: `open_study.opened`, which locks the folder, restores what is damaged
and brings the index up to date; only `run`, `retrain` and the procedures use it. To look at it: `snapshot.looked_at`,
which writes nothing and may be used while a runner is at work; all other commands use it. Both give the plan
(`plan_agreement`), the outcomes (`outcome_index`) and the damage (`damage`). `import` makes a folder of its own, `logs`
reads the log of one trial, and `conclusions` reads the answers of procedures.
"""
