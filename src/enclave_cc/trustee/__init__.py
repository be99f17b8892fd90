"""The relying party, run by the data owner: broker, appraisal, reference values, policy, audit."""
