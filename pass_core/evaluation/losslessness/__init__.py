"""The losslessness lab: three proofs on a loaded model that PASS changes the speed and nothing else.

`plan` says what is checked, `run` decodes and checks, `draws` tests sampled tokens against the model's own
probabilities, `report` holds what was found and says it in sentences.
"""
