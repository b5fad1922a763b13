# A TEST CONTRACT. It makes several token transfers from the caller in one transaction.
# pragma version 0.4.3
# pragma evm-version cancun

interface Token:
    def transferFrom(_from: address, _to: address, _value: uint256) -> bool: nonpayable

@external
def pay(token: address, recipients: DynArray[address, 32], amounts: DynArray[uint256, 32]):
    assert len(recipients) == len(amounts), "lengths"
    i: uint256 = 0
    for recipient: address in recipients:
        assert extcall Token(token).transferFrom(msg.sender, recipient, amounts[i])
        i += 1
