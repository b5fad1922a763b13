# A TEST TOKEN. It imitates what the order ledger relies on in USDC and must never be deployed to a public network.
# pragma version 0.4.3
# pragma evm-version cancun
# Test-only USD token: ERC-20 (6 decimals) + EIP-2612 + EIP-3009, no immutables,
# so the runtime bytecode can be placed at any address with anvil_setCode.

event Transfer:
    sender: indexed(address)
    receiver: indexed(address)
    value: uint256

event Approval:
    owner: indexed(address)
    spender: indexed(address)
    value: uint256

event AuthorizationUsed:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

event AuthorizationCanceled:
    authorizer: indexed(address)
    nonce: indexed(bytes32)

balanceOf: public(HashMap[address, uint256])
allowance: public(HashMap[address, HashMap[address, uint256]])
nonces: public(HashMap[address, uint256])
authorizationState: public(HashMap[address, HashMap[bytes32, bool]])
totalSupply: public(uint256)
minter: public(address)
name: public(String[32])
feeBps: public(uint256)          # 0 for USDC; >0 lets a test play a fee-on-transfer token
blacklisted: public(HashMap[address, bool])

HALF_N: constant(uint256) = 57896044618658097711785492504343953926418782139537452191302581570759080747168
DOMAIN_TYPE: constant(bytes32) = keccak256("EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)")
PERMIT_TYPE: constant(bytes32) = keccak256("Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)")
TWA_TYPE: constant(bytes32) = keccak256("TransferWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)")
RWA_TYPE: constant(bytes32) = keccak256("ReceiveWithAuthorization(address from,address to,uint256 value,uint256 validAfter,uint256 validBefore,bytes32 nonce)")
CA_TYPE: constant(bytes32) = keccak256("CancelAuthorization(address authorizer,bytes32 nonce)")

@external
def initialize(_name: String[32], _minter: address):
    assert self.minter == empty(address), "initialized"
    self.name = _name
    self.minter = _minter

@external
@view
def symbol() -> String[8]:
    return "USDC"

@external
@view
def version() -> String[4]:
    return "2"

@external
@view
def decimals() -> uint8:
    return 6

@internal
@view
def _domain() -> bytes32:
    return keccak256(abi_encode(DOMAIN_TYPE, keccak256(self.name), keccak256("2"), chain.id, self))

@external
@view
def DOMAIN_SEPARATOR() -> bytes32:
    return self._domain()

@internal
@view
def _recover(_struct: bytes32, _v: uint8, _r: bytes32, _s: bytes32) -> address:
    assert convert(_s, uint256) <= HALF_N, "high s"
    assert _v == 27 or _v == 28, "bad v"
    digest: bytes32 = keccak256(concat(x"1901", self._domain(), _struct))
    return ecrecover(digest, _v, _r, _s)

@internal
def _transfer(_from: address, _to: address, _value: uint256):
    assert _to != empty(address), "zero to"
    assert not self.blacklisted[_from] and not self.blacklisted[_to], "blacklisted"
    assert self.balanceOf[_from] >= _value, "balance"
    fee: uint256 = _value * self.feeBps // 10_000
    self.balanceOf[_from] -= _value
    self.balanceOf[_to] += _value - fee
    if fee > 0:
        self.balanceOf[self.minter] += fee
        log Transfer(sender=_from, receiver=self.minter, value=fee)
    log Transfer(sender=_from, receiver=_to, value=_value - fee)

@external
def setTestKnobs(_feeBps: uint256, _who: address, _black: bool):
    assert msg.sender == self.minter, "minter"
    self.feeBps = _feeBps
    self.blacklisted[_who] = _black

@external
def mint(_to: address, _value: uint256) -> bool:
    assert msg.sender == self.minter, "minter"
    self.totalSupply += _value
    self.balanceOf[_to] += _value
    log Transfer(sender=empty(address), receiver=_to, value=_value)
    return True

@external
def transfer(_to: address, _value: uint256) -> bool:
    self._transfer(msg.sender, _to, _value)
    return True

@external
def approve(_spender: address, _value: uint256) -> bool:
    self.allowance[msg.sender][_spender] = _value
    log Approval(owner=msg.sender, spender=_spender, value=_value)
    return True

@external
def transferFrom(_from: address, _to: address, _value: uint256) -> bool:
    a: uint256 = self.allowance[_from][msg.sender]
    assert a >= _value, "allowance"
    if a != max_value(uint256):
        self.allowance[_from][msg.sender] = a - _value
    self._transfer(_from, _to, _value)
    return True

@external
def permit(owner: address, spender: address, amount: uint256, deadline: uint256, v: uint8, r: bytes32, s: bytes32):
    assert block.timestamp <= deadline, "expired"
    n: uint256 = self.nonces[owner]
    self.nonces[owner] = n + 1
    h: bytes32 = keccak256(abi_encode(PERMIT_TYPE, owner, spender, amount, n, deadline))
    assert owner != empty(address) and self._recover(h, v, r, s) == owner, "signature"
    self.allowance[owner][spender] = amount
    log Approval(owner=owner, spender=spender, value=amount)

@internal
def _use(_type: bytes32, _from: address, _to: address, _amount: uint256, _after: uint256, _before: uint256, _nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    assert block.timestamp > _after, "not yet valid"
    assert block.timestamp < _before, "expired"
    assert not self.authorizationState[_from][_nonce], "used"
    h: bytes32 = keccak256(abi_encode(_type, _from, _to, _amount, _after, _before, _nonce))
    assert _from != empty(address) and self._recover(h, v, r, s) == _from, "signature"
    self.authorizationState[_from][_nonce] = True
    log AuthorizationUsed(authorizer=_from, nonce=_nonce)
    self._transfer(_from, _to, _amount)

@external
def transferWithAuthorization(_from: address, _to: address, _value: uint256, validAfter: uint256, validBefore: uint256, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    self._use(TWA_TYPE, _from, _to, _value, validAfter, validBefore, nonce, v, r, s)

@external
def receiveWithAuthorization(_from: address, _to: address, _value: uint256, validAfter: uint256, validBefore: uint256, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    assert _to == msg.sender, "caller must be payee"
    self._use(RWA_TYPE, _from, _to, _value, validAfter, validBefore, nonce, v, r, s)

@external
def cancelAuthorization(authorizer: address, nonce: bytes32, v: uint8, r: bytes32, s: bytes32):
    assert not self.authorizationState[authorizer][nonce], "used"
    h: bytes32 = keccak256(abi_encode(CA_TYPE, authorizer, nonce))
    assert authorizer != empty(address) and self._recover(h, v, r, s) == authorizer, "signature"
    self.authorizationState[authorizer][nonce] = True
    log AuthorizationCanceled(authorizer=authorizer, nonce=nonce)
