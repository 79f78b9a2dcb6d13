"""An open study: its folder is opened, its workload probed, its trials trained and recorded, its tables written.

There are two doors to read a study folder. `open_study.open_study` is the one to run in it: it locks the folder,
restores what is damaged and brings the index up to date; `run`, `retrain` and the procedures use it.
`snapshot.study_snapshot` is the one to look at it: it writes nothing and may be used while a runner is at work; all
other commands use it. Both give the plan (`plan_agreement`), the outcomes (`outcome_index`) and the damage (`damage`).
Only three read a folder without them: `import` makes a folder of its own, `logs` reads the log of one trial, and
`conclusions` reads the answers of procedures.
"""
