"""What is wrong with a study, and what to do next.

A finding is a `findings.Finding`: one sentence, an action, and the numbers behind them. To add one, change at most
three files:

1. Write a function that takes a `finding_evidence.StudyEvidence` and returns a list of findings, empty where there is
   nothing to say. Rule, constants and text are in one module: that of its subject in `curves`, `updates`, `search` or
   `comparison`, or one in this folder.
2. Add the function to `study_findings.FINDINGS`, under the finding's id, at its place in the order of importance. The
   page, `findings.json`, `status` and `next` take it from there.
3. Test it in the test file of its module: a study with the flaw must show it, and studies without the flaw must not.
"""
